"""The statements on institutions."""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.institutions.tables import InstitutionRow


async def find_institution(session: AsyncSession, institution_id: str) -> InstitutionRow | None:
    """Return one institution."""
    return await session.get(InstitutionRow, institution_id)


async def add_platform(session: AsyncSession, **values: str | int) -> bool:
    """Store the platform's institution; False when it is there already."""
    make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = make(InstitutionRow).values(**values).on_conflict_do_nothing()
    return await session.scalar(row.returning(InstitutionRow.institution_id)) is not None


async def add_institution(session: AsyncSession, institution: InstitutionRow) -> None:
    """Store a new institution."""
    session.add(institution)
    await session.flush()
