"""Logging in, staying logged in, logging out."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import UnauthenticatedError
from common.logging import add_facts
from user_service.attempts.service import Attempt, Attempts
from user_service.auth.passwords import Passwords
from user_service.auth.schemas import Credentials, RefreshRequest, Tokens
from user_service.auth.session_tokens import SessionTokens, refuse_suspended
from user_service.auth.tokens import digest_of
from user_service.events.recording import ANONYMOUS, Actor
from user_service.origin import Origin
from user_service.second_factors.checking import CodeKind, Codes
from user_service.sessions import refresh_tokens_repository as refresh_tokens
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.users import accounts_repository as repository
from user_service.users.accounts_repository import Account
from user_service.users.email import email_key

_log = structlog.get_logger()


class InvalidCredentialsError(UnauthenticatedError):
    """Unknown address, wrong password or disabled account; which of them is not said."""

    type = "invalid-credentials"
    title = "The e-mail address and password do not fit"
    keeps_changes = True  # the failure is counted


class SecondFactorNeededError(UnauthenticatedError):
    """The password is right, and the account has a second factor."""

    type = "second-factor-needed"
    title = "A code of the second factor is needed"


class InvalidCodeError(UnauthenticatedError):
    """The password is right, and the code is not, or was used before."""

    type = "invalid-code"
    title = "The code is wrong or was used before"
    keeps_changes = True  # the failure is counted


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
    attempts: Attempts
    codes: Codes
    tokens: SessionTokens

    async def login(
        self, session: AsyncSession, credentials: Credentials, origin: Origin, *, now_ms: int
    ) -> Tokens:
        """Check password and code and start a session.

        Raises `InvalidCredentialsError`, `SecondFactorNeededError`, `InvalidCodeError`, `TooManyAttemptsError` and
        `InstitutionSuspendedError`. Unknown addresses take the same way and the same time as known ones.
        """
        self.passwords.refuse_if_full()
        key = email_key(credentials.email)
        attempt = Attempt(key, origin.ip_address)
        await self.attempts.refuse_locked(session, attempt, now_ms=now_ms)
        account = await repository.find_account(session, email_key=key)
        stored = account.user.password_hash if account else None
        checked = await self.passwords.check(credentials.password.get_secret_value(), stored=stored)
        if account is None or not checked.correct or account.user.disabled_at_ms is not None:
            user_id = account.user.user_id if account else None
            await self.attempts.failed(session, attempt, user_id=user_id, now_ms=now_ms)
            raise InvalidCredentialsError
        code = await self._check_code(session, account, credentials, attempt, now_ms=now_ms)
        refuse_suspended(account.institution)
        if not await repository.note_login(session, account.user, new_hash=checked.new_hash, now_ms=now_ms):
            raise InvalidCredentialsError
        await self.attempts.succeeded(session, attempt, now_ms=now_ms)
        if code is not None:
            await self.codes.note_use(session, account, code, now_ms=now_ms)
        return await self.tokens.start(session, account, origin, now_ms=now_ms)

    async def _check_code(
        self,
        session: AsyncSession,
        account: Account,
        credentials: Credentials,
        attempt: Attempt,
        *,
        now_ms: int,
    ) -> CodeKind | None:
        if account.user.totp_confirmed_at_ms is None:
            return None
        if credentials.code is None:
            raise SecondFactorNeededError
        shown = credentials.code.get_secret_value()
        kind = await self.codes.use(session, account.user, shown, now_ms=now_ms)
        if kind is None:
            await self.attempts.failed_code(session, attempt, user_id=account.user.user_id, now_ms=now_ms)
            raise InvalidCodeError
        return kind

    async def refresh(
        self, session: AsyncSession, request: RefreshRequest, origin: Origin, *, now_ms: int
    ) -> Tokens:
        """Replace a session's tokens by new ones; raises `InvalidRefreshTokenError`, `InstitutionSuspendedError`.

        A token that was used before ends its whole session: whoever holds the newer ones may be a thief. Its owner is
        told, once.
        """
        digest = digest_of(request.refresh_token.get_secret_value())
        first_use = await refresh_tokens.use_refresh_token(session, digest, now_ms=now_ms)
        presented = await refresh_tokens.find_refresh_token(session, digest)
        if presented is None or presented.session.ended_at_ms or presented.account.user.disabled_at_ms:
            raise InvalidRefreshTokenError
        if first_use:
            refuse_suspended(presented.account.institution)
            renewed = await self.tokens.renew(session, presented, now_ms=now_ms)
            if renewed is None:
                raise InvalidRefreshTokenError
            return renewed
        if presented.token.used_at_ms is None:
            raise InvalidRefreshTokenError
        ending = Ending(
            ANONYMOUS,
            EndReason.REUSED,
            only=presented.session.session_id,
            ip_address=origin.ip_address,
        )
        await end_sessions(session, presented.account, ending, now_ms=now_ms)
        _log.warning("session.ended_by_reuse", user_id=presented.account.user.user_id)
        raise RefreshTokenReusedError

    async def logout(self, session: AsyncSession, request: RefreshRequest, *, now_ms: int) -> None:
        """End the session a refresh token belongs to; an unknown token has none, which is what was wanted."""
        presented = await refresh_tokens.find_refresh_token(
            session, digest_of(request.refresh_token.get_secret_value())
        )
        if presented is not None:
            user_id = presented.account.user.user_id
            add_facts(user_id=user_id)
            by = Actor("user", user_id)
            ending = Ending(by, EndReason.LOGOUT, only=presented.session.session_id)
            await end_sessions(session, presented.account, ending, now_ms=now_ms)
