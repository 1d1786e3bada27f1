"""The statements on the people of one institution."""

from collections.abc import Sequence

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_tenant
from user_service.auth.repository import Account
from user_service.institutions.tables import InstitutionRow
from user_service.users.roles import Role
from user_service.users.tables import UserRow


async def hold_institution(session: AsyncSession, institution_id: str) -> None:
    """Make others who change this institution's people wait until the commit; on either engine, by changing nothing."""
    holding = update(InstitutionRow).values(name=InstitutionRow.name)
    await session.execute(of_tenant(institution_id, holding).execution_options(synchronize_session=False))


async def read_members(
    session: AsyncSession, institution_id: str, *, offset: int, limit: int
) -> tuple[Sequence[UserRow], int]:
    """Return some of an institution's people in the order they came, and how many there are."""
    query = select(UserRow).order_by(UserRow.created_at_ms, UserRow.user_id).offset(offset).limit(limit)
    rows = (await session.scalars(of_tenant(institution_id, query))).all()
    count = select(func.count()).select_from(UserRow)
    total = await session.scalar(of_tenant(institution_id, count))
    return rows, int(total or 0)


async def find_member(session: AsyncSession, user_id: str, *, institution_id: str) -> Account | None:
    """Return one person of this institution, whatever their state, as they are now."""
    query = (
        select(UserRow, InstitutionRow)
        .join(InstitutionRow)
        .where(UserRow.user_id == user_id)
        .execution_options(populate_existing=True)
    )
    found = (await session.execute(of_tenant(institution_id, query))).one_or_none()
    return None if found is None else Account(*found)


async def count_able(session: AsyncSession, institution_id: str, role: Role) -> int:
    """Return how many people of this role can log in: they have joined and are not disabled."""
    query = select(func.count()).where(
        UserRow.role == role.value,
        UserRow.password_hash != "",
        UserRow.disabled_at_ms.is_(None),
    )
    return int(await session.scalar(of_tenant(institution_id, query)) or 0)


async def join(
    session: AsyncSession, user: UserRow, *, password_hash: str, full_name: str, now_ms: int
) -> bool:
    """Give somebody who was invited a password; False when they are disabled, have one or got another role."""
    joining = (
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.role == user.role,
            UserRow.password_hash == "",
            UserRow.disabled_at_ms.is_(None),
        )
        .values(password_hash=password_hash, full_name=full_name, last_login_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )
    joined = await session.execute(of_tenant(user.institution_id, joining))
    assert isinstance(joined, CursorResult)  # noqa: S101 - what an UPDATE returns
    return joined.rowcount == 1
