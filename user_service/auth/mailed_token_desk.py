"""Takes the tokens that were mailed: to people who are invited, and to those who forgot their password."""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import UnauthenticatedError
from user_service.attempts.service import Attempt, Attempts
from user_service.auth import repository
from user_service.auth.mailed_tokens import Purpose, token_id_of
from user_service.auth.repository import Account
from user_service.sessions.origin import Origin


class InvalidMailedTokenError(UnauthenticatedError):
    """The mailed token is unknown, expired, used or for something else; which of them is not said."""

    type = "invalid-mailed-token"
    title = "The token from the mail is not valid (any more)"
    keeps_changes = True  # the failure is counted


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token that can be used now, and whom it was mailed to."""

    token_id: str
    account: Account


@dataclass(frozen=True)
class MailedTokenDesk:
    """Looks at mailed tokens and uses them up."""

    key: bytes = field(repr=False)
    attempts: Attempts

    async def open(
        self, session: AsyncSession, text: str, purpose: Purpose, origin: Origin, *, now_ms: int
    ) -> ShownToken:
        """Return what `text` stands for, still unused; raises `InvalidMailedTokenError`, `TooManyAttemptsError`."""
        attempt = Attempt(None, origin.ip_address)
        await self.attempts.refuse_locked(session, attempt, now_ms=now_ms)
        token_id = token_id_of(self.key, text)
        account = (
            None
            if token_id is None
            else await repository.find_mailed_token(session, token_id, purpose, now_ms=now_ms)
        )
        if token_id is None or account is None or account.user.disabled_at_ms is not None:
            await self.attempts.failed(session, attempt, user_id=None, now_ms=now_ms)
            raise InvalidMailedTokenError
        return ShownToken(token_id, account)

    async def use(self, session: AsyncSession, shown: ShownToken, *, now_ms: int) -> None:
        """Use a token up; raises `InvalidMailedTokenError` when somebody else has used it meanwhile."""
        institution_id = shown.account.user.institution_id
        if not await repository.use_mailed_token(session, institution_id, shown.token_id, now_ms=now_ms):
            raise InvalidMailedTokenError
