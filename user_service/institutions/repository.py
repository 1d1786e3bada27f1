"""The statements on institutions."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.institutions import InstitutionMode
from common.tenancy import of_every_tenant, of_tenant
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID, InstitutionRow
from user_service.statements import insert_or

_OPERATORS = "operators see the tenants"


@dataclass(frozen=True, slots=True)
class InstitutionFilter:
    """Which tenants are wanted; None: whatever they are."""

    mode: InstitutionMode | None = None
    is_suspended: bool | None = None
    name_prefix: str | None = None


async def find_institution(session: AsyncSession, institution_id: str) -> InstitutionRow | None:
    """Return one institution."""
    found: InstitutionRow | None = await session.scalar(of_tenant(institution_id, select(InstitutionRow)))
    return found


async def find_tenant(session: AsyncSession, institution_id: str) -> InstitutionRow | None:
    """Return one tenant; the platform's own institution is none."""
    if institution_id == PLATFORM_INSTITUTION_ID:
        return None
    return await find_institution(session, institution_id)


async def page(
    session: AsyncSession, wanted: InstitutionFilter, *, before: str | None, limit: int
) -> Sequence[InstitutionRow]:
    """Return tenants, newest first, those before the id `before`."""
    query = select(InstitutionRow).where(InstitutionRow.institution_id != PLATFORM_INSTITUTION_ID)
    if wanted.mode is not None:
        query = query.where(InstitutionRow.mode == wanted.mode.value)
    if wanted.is_suspended is not None:
        suspended = InstitutionRow.suspended_at_ms.is_not(None)
        query = query.where(suspended if wanted.is_suspended else ~suspended)
    if wanted.name_prefix is not None:
        query = query.where(InstitutionRow.name.istartswith(wanted.name_prefix, autoescape=True))
    if before is not None:
        query = query.where(InstitutionRow.institution_id < before)
    query = query.order_by(InstitutionRow.institution_id.desc()).limit(limit)
    return (await session.scalars(of_every_tenant(query, _OPERATORS))).all()


async def add_platform(session: AsyncSession, **values: str | int) -> bool:
    """Store the platform's institution; False when it is there already."""
    row = insert_or(session, InstitutionRow).values(**values).on_conflict_do_nothing()
    return await session.scalar(row.returning(InstitutionRow.institution_id)) is not None


async def add_institution(session: AsyncSession, institution: InstitutionRow) -> None:
    """Store a new institution."""
    session.add(institution)
    await session.flush()


async def hold_institution(session: AsyncSession, institution_id: str) -> None:
    """Make others who change this institution's people wait until the commit; on either engine, by changing nothing."""
    holding = update(InstitutionRow).values(name=InstitutionRow.name)
    await session.execute(of_tenant(institution_id, holding).execution_options(synchronize_session=False))
