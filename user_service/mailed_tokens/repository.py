"""The statements on mailed tokens."""

from dataclasses import dataclass

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.ids import new_id
from common.tenancy import of_every_tenant, of_tenant
from user_service.institutions.tables import InstitutionRow
from user_service.mailed_tokens.tables import MailedTokenRow
from user_service.mailed_tokens.texts import LIFE_MS, Purpose
from user_service.statements import rows_changed
from user_service.users.accounts_repository import Account
from user_service.users.tables import UserRow

_BY_LETTER = "whose account a mailed token belongs to, the token says"
_FORGETTING = "what is old is forgotten for all"


@dataclass(frozen=True, slots=True)
class MailedTokens:
    """How many tokens were mailed, and when the first of them was."""

    count: int
    first_at_ms: int


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
    )
    return await rows_changed(session, of_tenant(institution_id, using)) == 1


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
    """Delete mailed tokens that expired before then and nobody holds, and return how many there were."""
    old = (
        select(MailedTokenRow.token_id)
        .where(MailedTokenRow.expires_at_ms < before_ms)
        .with_for_update(skip_locked=True)
    )
    forgetting = delete(MailedTokenRow).where(MailedTokenRow.token_id.in_(old))
    return await rows_changed(session, of_every_tenant(forgetting, _FORGETTING))


def _mailed(purpose: Purpose, since_ms: int) -> Select[int, int]:
    return select(
        func.count(MailedTokenRow.token_id), func.coalesce(func.min(MailedTokenRow.created_at_ms), 0)
    ).where(MailedTokenRow.purpose == purpose.value, MailedTokenRow.created_at_ms > since_ms)
