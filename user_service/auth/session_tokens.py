"""The tokens of a session: its first ones, and those that replace them."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.roles import Role
from common.errors import PlatformError
from common.ids import new_id
from common.logging import add_facts
from user_service.attempts.service import Attempt, Attempts
from user_service.auth.schemas import Tokens
from user_service.auth.tokens import AccessToken, TokenIssuer, digest_of, is_over, new_refresh_token
from user_service.events.recording import Action, Actor, Event, record
from user_service.institutions.tables import InstitutionRow
from user_service.origin import Origin
from user_service.sessions import refresh_tokens_repository as refresh_tokens
from user_service.sessions.refresh_tokens_repository import PresentedToken
from user_service.sessions.repository import forget_expired
from user_service.sessions.tables import RefreshTokenRow, SessionRow
from user_service.users.accounts_repository import Account
from user_service.users.repository import hold_user


class InstitutionSuspendedError(PlatformError):
    """The caller is who they say, and their institution is suspended."""

    status_code = 403
    type = "institution-suspended"
    title = "This institution is suspended"


def refuse_suspended(institution: InstitutionRow) -> None:
    """Raise `InstitutionSuspendedError` for an institution that is let in nowhere."""
    if institution.suspended_at_ms is not None:
        raise InstitutionSuspendedError


@dataclass(frozen=True)
class SessionTokens:
    """Gives sessions their tokens."""

    issuer: TokenIssuer
    attempts: Attempts
    refresh_token_ms: int
    session_ms: int

    async def start(self, session: AsyncSession, account: Account, origin: Origin, *, now_ms: int) -> Tokens:
        """Start a session of somebody who has shown who they are; their account is known at their address then."""
        user = account.user
        attempt = Attempt(user.email_key, origin.ip_address)
        await self.attempts.note_known(session, attempt, now_ms=now_ms)
        await forget_expired(session, user, now_ms=now_ms)
        family = SessionRow(
            session_id=new_id("ses"),
            user_id=user.user_id,
            created_at_ms=now_ms,
            last_used_at_ms=now_ms,
            ip_address=origin.ip_address,
            user_agent=origin.user_agent,
        )
        access = self._sign(account, family, now_ms=now_ms)
        session.add(family)
        await session.flush()  # the session's row comes before that of its token
        tokens = await self._add_refresh_token(session, family, access, now_ms=now_ms)
        started = Event(
            Action.SESSION_STARTED,
            Actor("user", user.user_id),
            "session",
            family.session_id,
            {"user_id": user.user_id},
        )
        await record(session, account.institution.as_contract(), started, now_ms=now_ms)
        return tokens

    async def renew(self, session: AsyncSession, presented: PresentedToken, *, now_ms: int) -> Tokens | None:
        """Return a session's next tokens, None when it has just ended, or ends within a second."""
        user = presented.account.user
        await hold_user(
            session, user.user_id, institution_id=user.institution_id
        )  # before any of the sessions
        await forget_expired(session, user, now_ms=now_ms)
        family = presented.session
        session.expunge(family)  # its row is changed only if it has not ended
        if is_over(self._end_of(family, now_ms=now_ms), now_ms=now_ms):
            return None
        access = self._sign(presented.account, family, now_ms=now_ms)
        if not await refresh_tokens.go_on_with(session, user.institution_id, family, now_ms=now_ms):
            return None
        return await self._add_refresh_token(session, family, access, now_ms=now_ms)

    def _sign(self, account: Account, family: SessionRow, *, now_ms: int) -> AccessToken:
        user = account.user
        add_facts(user_id=user.user_id, institution_id=user.institution_id)
        family.expires_at_ms = self._end_of(family, now_ms=now_ms)
        access = self.issuer.for_user(
            user.user_id,
            role=Role(user.role),
            institution=account.institution.as_contract(),
            session_id=family.session_id,
            ends_at_ms=family.expires_at_ms,
            now_ms=now_ms,
        )
        family.access_expires_at_ms = now_ms + access.expires_in * 1000
        return access

    def _end_of(self, family: SessionRow, *, now_ms: int) -> int:
        """Return when a session ends that gets tokens now."""
        return min(now_ms + self.refresh_token_ms, family.created_at_ms + self.session_ms)

    async def _add_refresh_token(
        self, session: AsyncSession, family: SessionRow, access: AccessToken, *, now_ms: int
    ) -> Tokens:
        refresh_token = new_refresh_token()
        session.add(
            RefreshTokenRow(
                digest=digest_of(refresh_token),
                session_id=family.session_id,
                access_token_id=access.token_id,
                created_at_ms=now_ms,
                expires_at_ms=family.expires_at_ms,
            )
        )
        await session.flush()
        return Tokens(access_token=access.text, expires_in=access.expires_in, refresh_token=refresh_token)
