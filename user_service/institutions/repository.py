"""The statements on institutions."""

from sqlalchemy.ext.asyncio import AsyncSession

from user_service.institutions.tables import InstitutionRow


async def find_institution(session: AsyncSession, institution_id: str) -> InstitutionRow | None:
    """Return one institution."""
    return await session.get(InstitutionRow, institution_id)


async def add_institution(session: AsyncSession, institution: InstitutionRow) -> None:
    """Store a new institution."""
    session.add(institution)
    await session.flush()
