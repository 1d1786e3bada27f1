"""What people who are logged in show once more before something that matters: their password, a code."""

from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.errors import PlatformError
from user_service.attempts.service import Attempts
from user_service.auth.passwords import Passwords
from user_service.events.recording import SYSTEM
from user_service.notices.security_changes import SecurityChange, tell_owner
from user_service.second_factors.checking import CodeKind, Codes
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.users.accounts_repository import Account
from user_service.users.repository import hold_user


class WrongCurrentPasswordError(PlatformError):
    """The current password that has to be shown is wrong."""

    status_code = 403
    type = "wrong-current-password"
    title = "The current password is wrong"
    keeps_changes = True  # the failure is counted


class WrongCodeError(PlatformError):
    """The code that has to be shown is wrong, or was used before."""

    status_code = 403
    type = "invalid-code"
    title = "The code is wrong or was used before"
    keeps_changes = True  # the failure is counted


@dataclass(frozen=True)
class Proofs:
    """Checks passwords and codes of people who are logged in.

    Failures count for the session they are made in and for nothing else: strangers keep nobody from their own account,
    and a session in wrong hands ends with the tenth guess. Nothing may be written before it is asked: what was written
    is kept together with the count.
    """

    passwords: Passwords
    attempts: Attempts
    codes: Codes

    async def check_password(
        self, session: AsyncSession, caller: Principal, account: Account, shown: SecretStr, *, now_ms: int
    ) -> None:
        """Raise `WrongCurrentPasswordError` or `TooManyAttemptsError`, or return."""
        await self.attempts.refuse_session(session, caller.session_id, now_ms=now_ms)
        stored = account.user.password_hash
        checked = await self.passwords.check(shown.get_secret_value(), stored=stored)
        if not checked.correct:
            await self._failed(session, caller, account, now_ms=now_ms)
            raise WrongCurrentPasswordError
        await self.attempts.refuse_session(session, caller.session_id, now_ms=now_ms)  # by others, meanwhile

    async def use_code(
        self, session: AsyncSession, caller: Principal, account: Account, shown: SecretStr, *, now_ms: int
    ) -> CodeKind:
        """Use a code up and return what it was; raises `WrongCodeError`, `TooManyAttemptsError`."""
        await self.attempts.refuse_session(session, caller.session_id, now_ms=now_ms)
        kind = await self.codes.use(session, account.user, shown.get_secret_value(), now_ms=now_ms)
        if kind is None:
            await self._failed(session, caller, account, now_ms=now_ms)
            raise WrongCodeError
        return kind

    async def check_step(
        self, session: AsyncSession, caller: Principal, account: Account, shown: SecretStr, *, now_ms: int
    ) -> int:
        """Return the time step whose code is shown, unused; raises `WrongCodeError`, `TooManyAttemptsError`."""
        await self.attempts.refuse_session(session, caller.session_id, now_ms=now_ms)
        step = self.codes.step_of(account.user, shown.get_secret_value(), now_ms=now_ms)
        if step is None:
            await self._failed(session, caller, account, now_ms=now_ms)
            raise WrongCodeError
        return step

    async def _failed(
        self, session: AsyncSession, caller: Principal, account: Account, *, now_ms: int
    ) -> None:
        """Count a failure; the tenth ends the session, and its owner is told."""
        user = account.user
        await hold_user(session, user.user_id, institution_id=user.institution_id)  # before what is counted
        if await self.attempts.failed_in_session(session, caller.session_id, now_ms=now_ms):
            await tell_owner(session, account, SecurityChange.SESSION_ENDED_BY_GUESSES, now_ms=now_ms)
            ending = Ending(SYSTEM, EndReason.GUESSED, only=caller.session_id)
            await end_sessions(session, account, ending, now_ms=now_ms)
