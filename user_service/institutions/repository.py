"""The statements on institutions."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_tenant
from user_service.institutions.tables import InstitutionRow


async def find_institution(session: AsyncSession, institution_id: str) -> InstitutionRow | None:
    """Return one institution."""
    found: InstitutionRow | None = await session.scalar(of_tenant(institution_id, select(InstitutionRow)))
    return found


async def add_institution(session: AsyncSession, institution: InstitutionRow) -> None:
    """Store a new institution."""
    session.add(institution)
    await session.flush()
