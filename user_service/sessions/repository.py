"""The statements on sessions: what is open, and what ends."""

from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_tenant
from user_service.sessions.tables import RefreshTokenRow, SessionRow
from user_service.users.repository import hold_user
from user_service.users.tables import UserRow


async def open_sessions(
    session: AsyncSession,
    institution_id: str,
    user_id: str,
    *,
    before: str | None,
    limit: int,
    now_ms: int,
) -> Sequence[SessionRow]:
    """Return a user's sessions that can still be used, the newest first, those before the id `before`."""
    query = select(SessionRow).where(
        SessionRow.user_id == user_id,
        SessionRow.ended_at_ms.is_(None),
        SessionRow.expires_at_ms > now_ms,
    )
    if before is not None:
        query = query.where(SessionRow.session_id < before)
    query = query.order_by(SessionRow.session_id.desc()).limit(limit)
    return (await session.scalars(of_tenant(institution_id, query))).all()


async def end_sessions(
    session: AsyncSession, user: UserRow, *, only: str | None, keep: str | None, now_ms: int
) -> list[str]:
    """End a user's sessions: all, `only` one or all but `keep`. Return those that had not ended before.

    Whoever ends sessions of one user takes turns, also with those who change the user: otherwise two who hold a
    session and the number of the next event could wait for each other.
    """
    await hold_user(session, user.user_id, institution_id=user.institution_id)
    ending = update(SessionRow).where(SessionRow.user_id == user.user_id, SessionRow.ended_at_ms.is_(None))
    if only is not None:
        ending = ending.where(SessionRow.session_id == only)
    if keep is not None:
        ending = ending.where(SessionRow.session_id != keep)
    ended = await session.scalars(
        of_tenant(user.institution_id, ending)
        .values(ended_at_ms=now_ms)
        .returning(SessionRow.session_id)
        .execution_options(synchronize_session=False)
    )
    return sorted(ended)


async def forget_expired(session: AsyncSession, user: UserRow, *, now_ms: int) -> None:
    """Delete a user's refresh tokens and sessions that could not be used any more anyway.

    A session stays as long as one of its access tokens may be valid: the feed says when that one ends.
    """
    mine = select(SessionRow.session_id).where(SessionRow.user_id == user.user_id)
    tokens = delete(RefreshTokenRow).where(
        RefreshTokenRow.session_id.in_(of_tenant(user.institution_id, mine).scalar_subquery()),
        RefreshTokenRow.expires_at_ms <= now_ms,
    )
    sessions = delete(SessionRow).where(
        SessionRow.user_id == user.user_id,
        SessionRow.expires_at_ms <= now_ms,
        SessionRow.access_expires_at_ms <= now_ms,
    )
    for statement in (tokens, sessions):
        scoped = of_tenant(user.institution_id, statement)
        await session.execute(scoped.execution_options(synchronize_session=False))
