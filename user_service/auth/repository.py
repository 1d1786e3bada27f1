"""The statements on sessions and refresh tokens."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, Result, Update, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.auth.tables import RefreshTokenRow, SessionRow
from user_service.institutions.tables import InstitutionRow
from user_service.users.tables import UserRow


@dataclass(frozen=True, slots=True)
class Account:
    """A user and the institution they belong to."""

    user: UserRow
    institution: InstitutionRow


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """A refresh token that was issued, with everything it stands for."""

    token: RefreshTokenRow
    session: SessionRow
    account: Account


async def find_account(session: AsyncSession, *, email_key: str) -> Account | None:
    """Return the account that logs in with this address."""
    query = select(UserRow, InstitutionRow).join(InstitutionRow).where(UserRow.email_key == email_key)
    found = (await session.execute(query)).one_or_none()
    return None if found is None else Account(*found)


async def note_login(session: AsyncSession, user: UserRow, *, new_hash: str | None, now_ms: int) -> bool:
    """Record a login; False when the account was disabled or its password changed since it was read."""
    noted = await session.execute(
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.password_hash == user.password_hash,
            UserRow.disabled_at_ms.is_(None),
        )
        .values(last_login_at_ms=now_ms, password_hash=new_hash or user.password_hash)
        .execution_options(synchronize_session=False)
    )
    return _rows(noted) == 1


async def use_refresh_token(session: AsyncSession, digest: str, *, now_ms: int) -> bool:
    """Mark an unused, unexpired refresh token as used; of callers at the same time only one gets True."""
    used = await session.execute(
        update(RefreshTokenRow)
        .where(
            RefreshTokenRow.digest == digest,
            RefreshTokenRow.used_at_ms.is_(None),
            RefreshTokenRow.expires_at_ms > now_ms,
        )
        .values(used_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )
    return _rows(used) == 1


async def find_refresh_token(session: AsyncSession, digest: str) -> PresentedToken | None:
    """Return what a refresh token stands for, whatever has become of it."""
    query = (
        select(RefreshTokenRow, SessionRow, UserRow, InstitutionRow)
        .join(SessionRow, SessionRow.session_id == RefreshTokenRow.session_id)
        .join(UserRow, UserRow.user_id == SessionRow.user_id)
        .join(InstitutionRow, InstitutionRow.institution_id == UserRow.institution_id)
        .where(RefreshTokenRow.digest == digest)
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    token, family, user, institution = found
    return PresentedToken(token, family, Account(user, institution))


async def session_of(session: AsyncSession, *, access_token_id: str) -> str | None:
    """Return the session an access token was issued in."""
    query = select(RefreshTokenRow.session_id).where(RefreshTokenRow.access_token_id == access_token_id)
    found: str | None = await session.scalar(query)
    return found


async def end_session(session: AsyncSession, session_id: str, *, now_ms: int) -> None:
    """End one session: none of its refresh tokens works any more."""
    await session.execute(_ending(now_ms).where(SessionRow.session_id == session_id))


async def end_other_sessions(session: AsyncSession, user_id: str, *, keep: str | None, now_ms: int) -> None:
    """End all sessions of a user but `keep`."""
    ending = _ending(now_ms).where(SessionRow.user_id == user_id)
    await session.execute(ending if keep is None else ending.where(SessionRow.session_id != keep))


async def forget_expired(session: AsyncSession, user_id: str, *, now_ms: int) -> None:
    """Delete a user's refresh tokens and sessions that could not be used any more anyway."""
    mine = select(SessionRow.session_id).where(SessionRow.user_id == user_id).scalar_subquery()
    for statement in (
        delete(RefreshTokenRow).where(
            RefreshTokenRow.session_id.in_(mine), RefreshTokenRow.expires_at_ms <= now_ms
        ),
        delete(SessionRow).where(SessionRow.user_id == user_id, SessionRow.expires_at_ms <= now_ms),
    ):
        await session.execute(statement.execution_options(synchronize_session=False))


def _ending(now_ms: int) -> Update:
    return (
        update(SessionRow)
        .where(SessionRow.ended_at_ms.is_(None))
        .values(ended_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )


def _rows(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)  # noqa: S101 - what an UPDATE returns
    return result.rowcount
