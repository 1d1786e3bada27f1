"""The statements on those who run an institution, as they are made on the machine itself."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_every_tenant, of_tenant
from user_service.users.roles import PLATFORM_INSTITUTION_ID, Role
from user_service.users.tables import UserRow

_BY_ADDRESS = (
    "an address has one account on the whole platform; who appoints somebody may not take it from another"
)


async def find_by_email(session: AsyncSession, *, email_key: str) -> UserRow | None:
    """Return whoever has this address, in whatever institution."""
    query = select(UserRow).where(UserRow.email_key == email_key)
    found: UserRow | None = await session.scalar(of_every_tenant(query, _BY_ADDRESS))
    return found


async def operators(session: AsyncSession) -> Sequence[UserRow]:
    """Return all operators, also those who are disabled or have not joined yet."""
    query = select(UserRow).where(UserRow.role == Role.OPERATOR.value).order_by(UserRow.user_id)
    return (await session.scalars(of_tenant(PLATFORM_INSTITUTION_ID, query))).all()
