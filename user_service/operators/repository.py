"""The statements on those who run an institution, as they are made on the machine itself."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.roles import Role
from common.tenancy import of_tenant
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID
from user_service.users.tables import UserRow


async def operators(session: AsyncSession) -> Sequence[UserRow]:
    """Return all operators, also those who are disabled or have not joined yet."""
    query = select(UserRow).where(UserRow.role == Role.OPERATOR.value).order_by(UserRow.user_id)
    return (await session.scalars(of_tenant(PLATFORM_INSTITUTION_ID, query))).all()
