"""What people who are logged in show once more before something that matters: their password, a code."""

from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import PlatformError
from user_service.attempts.service import Attempt, Attempts
from user_service.auth.passwords import Passwords
from user_service.second_factors.checking import CodeKind, Codes
from user_service.sessions.origin import Origin
from user_service.users.tables import UserRow


class WrongCurrentPasswordError(PlatformError):
    """The current password that has to be shown is wrong."""

    status_code = 403
    type = "wrong-current-password"
    title = "The current password is wrong"
    keeps_changes = True  # the failure is counted


class WrongCodeError(PlatformError):
    """The code that has to be shown is wrong, or was used before."""

    status_code = 403
    type = "wrong-code"
    title = "The code is wrong or was used before"
    keeps_changes = True  # the failure is counted


@dataclass(frozen=True)
class Proofs:
    """Checks passwords and codes of people who are logged in; failures count as those at the login do.

    Nothing may be written before it is asked: what was written is kept together with the count.
    """

    passwords: Passwords
    attempts: Attempts
    codes: Codes

    async def check_password(
        self, session: AsyncSession, user: UserRow, shown: SecretStr, origin: Origin, *, now_ms: int
    ) -> None:
        """Raise `WrongCurrentPasswordError` or `TooManyAttemptsError`, or return."""
        attempt = Attempt(user.email_key, origin.ip_address)
        await self.attempts.refuse_locked(session, attempt, now_ms=now_ms)
        checked = await self.passwords.check(shown.get_secret_value(), stored=user.password_hash)
        if not checked.correct:
            await self._count(session, attempt, user, now_ms=now_ms)
            raise WrongCurrentPasswordError
        await self.attempts.refuse_locked(session, attempt, now_ms=now_ms)  # by others, meanwhile

    async def use_code(
        self, session: AsyncSession, user: UserRow, shown: SecretStr, origin: Origin, *, now_ms: int
    ) -> CodeKind:
        """Use a code up and return what it was; raises `WrongCodeError`, `TooManyAttemptsError`."""
        attempt = Attempt(user.email_key, origin.ip_address)
        await self.attempts.refuse_locked(session, attempt, now_ms=now_ms)
        kind = await self.codes.use(session, user, shown.get_secret_value(), now_ms=now_ms)
        if kind is None:
            await self._count(session, attempt, user, now_ms=now_ms)
            raise WrongCodeError
        return kind

    async def check_step(
        self, session: AsyncSession, user: UserRow, shown: SecretStr, origin: Origin, *, now_ms: int
    ) -> int:
        """Return the time step whose code is shown, unused; raises `WrongCodeError`, `TooManyAttemptsError`."""
        attempt = Attempt(user.email_key, origin.ip_address)
        await self.attempts.refuse_locked(session, attempt, now_ms=now_ms)
        step = self.codes.step_of(user, shown.get_secret_value(), now_ms=now_ms)
        if step is None:
            await self._count(session, attempt, user, now_ms=now_ms)
            raise WrongCodeError
        return step

    async def _count(self, session: AsyncSession, attempt: Attempt, user: UserRow, *, now_ms: int) -> None:
        await self.attempts.failed(session, attempt, user_id=user.user_id, now_ms=now_ms)
