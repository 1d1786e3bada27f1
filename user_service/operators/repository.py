"""The statements on those who run an institution, as they are made on the machine itself."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.auth.tables import MailedTokenRow
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


async def add_token(session: AsyncSession, token: MailedTokenRow, *, now_ms: int) -> None:
    """Store a token; those before it for the same purpose are worth nothing."""
    await session.execute(
        update(MailedTokenRow)
        .where(
            MailedTokenRow.user_id == token.user_id,
            MailedTokenRow.purpose == token.purpose,
            MailedTokenRow.used_at_ms.is_(None),
        )
        .values(used_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )
    session.add(token)
    await session.flush()
