"""The statements on those who run an institution, as they are made on the machine itself."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.users.roles import PLATFORM_INSTITUTION_ID, Role
from user_service.users.tables import UserRow


async def find_by_email(session: AsyncSession, *, email_key: str) -> UserRow | None:
    """Return whoever has this address, in whatever institution."""
    found: UserRow | None = await session.scalar(select(UserRow).where(UserRow.email_key == email_key))
    return found


async def operators(session: AsyncSession) -> Sequence[UserRow]:
    """Return all operators, also those who are disabled or have not joined yet."""
    query = (
        select(UserRow)
        .where(UserRow.institution_id == PLATFORM_INSTITUTION_ID, UserRow.role == Role.OPERATOR.value)
        .order_by(UserRow.user_id)
    )
    return (await session.scalars(query)).all()
