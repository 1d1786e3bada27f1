"""Takes the tokens that were mailed: to people who register, are invited, or forgot their password."""

from dataclasses import dataclass, field
from typing import Never

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import UnauthenticatedError
from user_service.attempts.service import Attempt, Attempts
from user_service.mailed_tokens import repository as mailed_tokens
from user_service.mailed_tokens.texts import Purpose, token_id_of
from user_service.origin import Origin
from user_service.users.accounts_repository import Account
from user_service.users.repository import hold_user


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
        """Return what `text` stands for, still unused; raises `InvalidMailedTokenError`, `TooManyAttemptsError`.

        A right token is taken also where others have locked the address: nobody comes by one by guessing.
        """
        token_id = self.read(text)
        account = (
            None
            if token_id is None
            else await mailed_tokens.find_mailed_token(session, token_id, purpose, now_ms=now_ms)
        )
        if token_id is None or account is None or account.user.disabled_at_ms is not None:
            await self.refuse(session, origin, now_ms=now_ms)
        return ShownToken(token_id, account)

    def read(self, text: str) -> str | None:
        """Return the id in a text that we made, None for any other text."""
        return token_id_of(self.key, text)

    async def refuse(self, session: AsyncSession, origin: Origin, *, now_ms: int, detail: str = "") -> Never:
        """Count a token that is worth nothing; raises `InvalidMailedTokenError` or `TooManyAttemptsError`."""
        attempt = Attempt(None, origin.ip_address)
        await self.attempts.refuse_locked(session, attempt, now_ms=now_ms)
        await self.attempts.failed(session, attempt, user_id=None, now_ms=now_ms)
        raise InvalidMailedTokenError(detail)

    async def use(self, session: AsyncSession, shown: ShownToken, *, now_ms: int) -> None:
        """Use a token up; raises `InvalidMailedTokenError` when somebody else has used it meanwhile.

        Nobody changes whom it was mailed to until the commit. Their row is taken before the token's, as by those who
        change them first: otherwise the two could wait for each other.
        """
        user = shown.account.user
        await hold_user(session, user.user_id, institution_id=user.institution_id)
        if not await mailed_tokens.use_mailed_token(
            session, user.institution_id, shown.token_id, now_ms=now_ms
        ):
            raise InvalidMailedTokenError
