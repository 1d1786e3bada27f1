"""The statements on accounts that log in, refresh tokens and mailed tokens."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, Result, Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.ids import new_id
from common.tenancy import of_every_tenant, of_tenant
from user_service.auth.mailed_tokens import LIFE_MS, Purpose
from user_service.auth.tables import MailedTokenRow, RefreshTokenRow, SessionRow
from user_service.institutions.tables import InstitutionRow
from user_service.users.tables import UserRow

_BY_ADDRESS = "who logs in says an address; whose it is, the account says"
_BY_DIGEST = "whose session a refresh token belongs to, the token says"
_BY_LETTER = "whose account a mailed token belongs to, the token says"
_BY_TASK = "a task about an account names the user; whose it is, the account says"
_FORGETTING = "what is old is forgotten for all"


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


@dataclass(frozen=True, slots=True)
class MailedTokens:
    """How many tokens were mailed, and when the first of them was."""

    count: int
    first_at_ms: int


async def find_account(session: AsyncSession, *, email_key: str) -> Account | None:
    """Return the account that logs in with this address."""
    query = select(UserRow, InstitutionRow).join(InstitutionRow).where(UserRow.email_key == email_key)
    found = (await session.execute(of_every_tenant(query, _BY_ADDRESS))).one_or_none()
    return None if found is None else Account(*found)


async def note_login(session: AsyncSession, user: UserRow, *, new_hash: str | None, now_ms: int) -> bool:
    """Record a login; False when the account was disabled or its password or role changed since it was read."""
    noting = (
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.password_hash == user.password_hash,
            UserRow.role == user.role,
            UserRow.disabled_at_ms.is_(None),
        )
        .values(last_login_at_ms=now_ms, password_hash=new_hash or user.password_hash)
        .execution_options(synchronize_session=False)
    )
    noted = await session.execute(of_tenant(user.institution_id, noting))
    return _rows(noted) == 1


async def use_refresh_token(session: AsyncSession, digest: str, *, now_ms: int) -> bool:
    """Mark an unused, unexpired refresh token as used; of callers at the same time only one gets True."""
    using = (
        update(RefreshTokenRow)
        .where(
            RefreshTokenRow.digest == digest,
            RefreshTokenRow.used_at_ms.is_(None),
            RefreshTokenRow.expires_at_ms > now_ms,
        )
        .values(used_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )
    used = await session.execute(of_every_tenant(using, _BY_DIGEST))
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
    found = (await session.execute(of_every_tenant(query, _BY_DIGEST))).one_or_none()
    if found is None:
        return None
    token, family, user, institution = found
    return PresentedToken(token, family, Account(user, institution))


async def go_on_with(session: AsyncSession, institution_id: str, family: SessionRow, *, now_ms: int) -> bool:
    """Note that a session got new tokens, until when they are good; False when it has ended since it was read.

    It waits for whoever is ending the session, and whoever ends it afterwards sees when its newest token expires.
    """
    noting = (
        update(SessionRow)
        .where(SessionRow.session_id == family.session_id, SessionRow.ended_at_ms.is_(None))
        .values(
            last_used_at_ms=now_ms,
            access_expires_at_ms=family.access_expires_at_ms,
            expires_at_ms=family.expires_at_ms,
        )
        .execution_options(synchronize_session=False)
    )
    noted = await session.execute(of_tenant(institution_id, noting))
    return _rows(noted) == 1


async def find_by_id(session: AsyncSession, user_id: str) -> Account | None:
    """Return the account of this user, whatever its institution."""
    query = select(UserRow, InstitutionRow).join(InstitutionRow).where(UserRow.user_id == user_id)
    found = (await session.execute(of_every_tenant(query, _BY_TASK))).one_or_none()
    return None if found is None else Account(*found)


async def add_mailed_token(
    session: AsyncSession, user_id: str, purpose: Purpose, *, now_ms: int
) -> MailedTokenRow:
    """Store a new token to be mailed."""
    row = MailedTokenRow(
        token_id=new_id("mtk"),
        user_id=user_id,
        purpose=purpose.value,
        created_at_ms=now_ms,
        expires_at_ms=now_ms + LIFE_MS[purpose],
    )
    session.add(row)
    await session.flush()
    return row


async def find_mailed_token(
    session: AsyncSession, token_id: str, purpose: Purpose, *, now_ms: int
) -> Account | None:
    """Return whom an unused, unexpired token was mailed to."""
    query = (
        select(UserRow, InstitutionRow)
        .join(InstitutionRow)
        .join(MailedTokenRow, MailedTokenRow.user_id == UserRow.user_id)
        .where(
            MailedTokenRow.token_id == token_id,
            MailedTokenRow.purpose == purpose.value,
            MailedTokenRow.used_at_ms.is_(None),
            MailedTokenRow.expires_at_ms > now_ms,
        )
    )
    found = (await session.execute(of_every_tenant(query, _BY_LETTER))).one_or_none()
    return None if found is None else Account(*found)


async def use_mailed_token(session: AsyncSession, institution_id: str, token_id: str, *, now_ms: int) -> bool:
    """Mark an unused, unexpired mailed token as used; of callers at the same time only one gets True."""
    using = (
        update(MailedTokenRow)
        .where(
            MailedTokenRow.token_id == token_id,
            MailedTokenRow.used_at_ms.is_(None),
            MailedTokenRow.expires_at_ms > now_ms,
        )
        .values(used_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )
    used = await session.execute(of_tenant(institution_id, using))
    return _rows(used) == 1


async def spend_mailed_tokens(session: AsyncSession, user: UserRow, purpose: Purpose, *, now_ms: int) -> None:
    """Make all of a user's mailed tokens for `purpose` useless."""
    spending = (
        update(MailedTokenRow)
        .where(
            MailedTokenRow.user_id == user.user_id,
            MailedTokenRow.purpose == purpose.value,
            MailedTokenRow.used_at_ms.is_(None),
        )
        .values(used_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )
    await session.execute(of_tenant(user.institution_id, spending))


async def mailed_tokens_of(
    session: AsyncSession, user: UserRow, purpose: Purpose, *, since_ms: int
) -> MailedTokens:
    """Return what was mailed to a user for `purpose` since then."""
    query = _mailed(purpose, since_ms).where(MailedTokenRow.user_id == user.user_id)
    return MailedTokens(*(await session.execute(of_tenant(user.institution_id, query))).one())


async def mailed_tokens_in(
    session: AsyncSession, institution_id: str, purpose: Purpose, *, since_ms: int
) -> MailedTokens:
    """Return what was mailed to all people of an institution for `purpose` since then."""
    query = _mailed(purpose, since_ms).join(UserRow, UserRow.user_id == MailedTokenRow.user_id)
    return MailedTokens(*(await session.execute(of_tenant(institution_id, query))).one())


async def forget_old_mailed_tokens(session: AsyncSession, *, before_ms: int) -> int:
    """Delete mailed tokens that expired before then, and return how many there were."""
    forgetting = (
        delete(MailedTokenRow)
        .where(MailedTokenRow.expires_at_ms < before_ms)
        .execution_options(synchronize_session=False)
    )
    forgotten = await session.execute(of_every_tenant(forgetting, _FORGETTING))
    return _rows(forgotten)


def _mailed(purpose: Purpose, since_ms: int) -> Select[int, int]:
    return select(
        func.count(MailedTokenRow.token_id), func.coalesce(func.min(MailedTokenRow.created_at_ms), 0)
    ).where(MailedTokenRow.purpose == purpose.value, MailedTokenRow.created_at_ms > since_ms)


def _rows(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)  # noqa: S101 - what an UPDATE returns
    return result.rowcount
