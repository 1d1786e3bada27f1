"""Logging in, staying logged in, logging out."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import UnauthenticatedError
from common.ids import new_id
from common.logging import add_facts
from user_service.auth import repository
from user_service.auth.passwords import Passwords
from user_service.auth.repository import Account, PresentedToken
from user_service.auth.schemas import Credentials, RefreshRequest, Tokens
from user_service.auth.tables import RefreshTokenRow, SessionRow
from user_service.auth.tokens import TokenIssuer, digest_of, new_refresh_token
from user_service.users.email import email_key
from user_service.users.roles import Role

_log = structlog.get_logger()


class InvalidCredentialsError(UnauthenticatedError):
    """Unknown address, wrong password or disabled account; which of them is not said."""

    type = "invalid-credentials"
    title = "The e-mail address and password do not fit"


class InvalidRefreshTokenError(UnauthenticatedError):
    """The refresh token is unknown, expired, used or ended; which of them is not said."""

    type = "invalid-refresh-token"
    title = "The refresh token is not valid; log in again"


class RefreshTokenReusedError(InvalidRefreshTokenError):
    """A used refresh token came again: it is in two hands, so its session was ended, and stays so."""

    keeps_changes = True


@dataclass(frozen=True)
class Authentication:
    """Sessions of users."""

    passwords: Passwords
    issuer: TokenIssuer
    refresh_token_ms: int
    session_ms: int

    async def login(self, session: AsyncSession, credentials: Credentials, *, now_ms: int) -> Tokens:
        """Check the password and start a session; raises `InvalidCredentialsError`."""
        account = await repository.find_account(session, email_key=email_key(credentials.email))
        stored = account.user.password_hash if account else None
        checked = await self.passwords.check(credentials.password.get_secret_value(), stored=stored)
        if account is None or not checked.correct:
            raise InvalidCredentialsError
        if not await repository.note_login(session, account.user, new_hash=checked.new_hash, now_ms=now_ms):
            raise InvalidCredentialsError
        return await self.start_session(session, account, now_ms=now_ms)

    async def refresh(self, session: AsyncSession, request: RefreshRequest, *, now_ms: int) -> Tokens:
        """Replace a session's tokens by new ones; raises `InvalidRefreshTokenError`.

        A token that was used before ends its whole session: whoever holds the newer ones may be a thief.
        """
        digest = digest_of(request.refresh_token.get_secret_value())
        first_use = await repository.use_refresh_token(session, digest, now_ms=now_ms)
        presented = await repository.find_refresh_token(session, digest)
        if presented is None or presented.session.ended_at_ms or presented.account.user.disabled_at_ms:
            raise InvalidRefreshTokenError
        if first_use:
            await repository.forget_expired(session, presented.account.user, now_ms=now_ms)
            return await self._issue(session, presented.account, presented.session, now_ms=now_ms)
        if presented.token.used_at_ms is None:
            raise InvalidRefreshTokenError
        await self._end(session, presented, now_ms=now_ms)
        _log.warning("session.ended_by_reuse", user_id=presented.account.user.user_id)
        raise RefreshTokenReusedError

    async def logout(self, session: AsyncSession, request: RefreshRequest, *, now_ms: int) -> None:
        """End the session a refresh token belongs to; an unknown token has none, which is what was wanted."""
        presented = await repository.find_refresh_token(
            session, digest_of(request.refresh_token.get_secret_value())
        )
        if presented is not None:
            add_facts(user_id=presented.account.user.user_id)
            await self._end(session, presented, now_ms=now_ms)

    async def start_session(self, session: AsyncSession, account: Account, *, now_ms: int) -> Tokens:
        """Start a session of somebody who has shown who they are."""
        await repository.forget_expired(session, account.user, now_ms=now_ms)
        family = SessionRow(
            session_id=new_id("ses"),
            user_id=account.user.user_id,
            created_at_ms=now_ms,
            expires_at_ms=now_ms,
            last_used_at_ms=now_ms,
            access_expires_at_ms=now_ms,
            ip_address="",
            user_agent="",
        )
        session.add(family)
        return await self._issue(session, account, family, now_ms=now_ms)

    async def _end(self, session: AsyncSession, presented: PresentedToken, *, now_ms: int) -> None:
        institution_id = presented.account.user.institution_id
        await repository.end_session(session, institution_id, presented.session.session_id, now_ms=now_ms)

    async def _issue(
        self, session: AsyncSession, account: Account, family: SessionRow, *, now_ms: int
    ) -> Tokens:
        user = account.user
        add_facts(user_id=user.user_id, institution_id=user.institution_id)
        access = self.issuer.for_user(
            user.user_id,
            role=Role(user.role),
            institution=account.institution.as_contract(),
            session_id=family.session_id,
            now_ms=now_ms,
        )
        refresh_token = new_refresh_token()
        family.last_used_at_ms = now_ms
        family.access_expires_at_ms = now_ms + access.expires_in * 1000
        family.expires_at_ms = min(now_ms + self.refresh_token_ms, family.created_at_ms + self.session_ms)
        await session.flush()  # the session's row comes before that of its token
        session.add(
            RefreshTokenRow(
                digest=digest_of(refresh_token),
                session_id=family.session_id,
                access_token_id=access.token_id,
                created_at_ms=now_ms,
                expires_at_ms=family.expires_at_ms,
            )
        )
        return Tokens(access_token=access.text, expires_in=access.expires_in, refresh_token=refresh_token)
