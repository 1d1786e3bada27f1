"""The statements on refresh tokens and the sessions they carry on."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_every_tenant, of_tenant
from user_service.institutions.tables import InstitutionRow
from user_service.sessions.tables import RefreshTokenRow, SessionRow
from user_service.statements import rows_changed
from user_service.users.accounts_repository import Account
from user_service.users.tables import UserRow

_BY_DIGEST = "whose session a refresh token belongs to, the token says"


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """A refresh token that was issued, with everything it stands for."""

    token: RefreshTokenRow
    session: SessionRow
    account: Account


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
    )
    return await rows_changed(session, of_every_tenant(using, _BY_DIGEST)) == 1


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
    )
    return await rows_changed(session, of_tenant(institution_id, noting)) == 1
