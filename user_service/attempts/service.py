"""Counts failed attempts, durably and for all workers, and refuses more of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import PlatformError
from user_service.account_tasks.repository import add_task
from user_service.account_tasks.tables import TaskKind
from user_service.attempts import repository
from user_service.attempts.policy import ACCOUNT, ADDRESS, Bound, Tally, address_group, after_failure
from user_service.derived_keys import keyed_digest

_log = structlog.get_logger()


class TooManyAttemptsError(PlatformError):
    """So many attempts failed that no more are looked at for a while, right or wrong, known account or not."""

    status_code = 429
    type = "too-many-attempts"
    title = "Too many attempts failed; try again later"


@dataclass(frozen=True, slots=True)
class Attempt:
    """At which account somebody tries (its `email_key`, whether it exists or not), and from which address."""

    account: str | None
    address: str


@dataclass(frozen=True)
class Attempts:
    """Bounds how often passwords, codes and mailed tokens are guessed."""

    key: bytes = field(repr=False)

    async def refuse_locked(self, session: AsyncSession, attempt: Attempt, *, now_ms: int) -> None:
        """Raise `TooManyAttemptsError` while the account or the address is locked."""
        keys = [key for key, _ in self._bounds(attempt)]
        for tally in await repository.read_tallies(session, keys):
            _refuse_locked(tally, now_ms=now_ms)

    async def failed(
        self, session: AsyncSession, attempt: Attempt, *, user_id: str | None, now_ms: int
    ) -> None:
        """Count a failure; whoever calls it raises an error that keeps changes.

        Raises `TooManyAttemptsError` when others that ran at the same time have locked it: their answers are all
        that was learned.
        """
        for key, bound in self._bounds(attempt):
            seen = await repository.hold_tally(session, key, now_ms=now_ms)
            _refuse_locked(seen, now_ms=now_ms)
            tally = after_failure(seen, bound, now_ms=now_ms)
            await repository.keep_tally(session, key, tally)
            if tally.is_locked(now_ms=now_ms):
                _log.warning("attempts.locked", of="account" if bound is ACCOUNT else "address")
                if bound is ACCOUNT:
                    await add_task(session, TaskKind.LOCKED, user_id=user_id, now_ms=now_ms)

    async def succeeded(self, session: AsyncSession, attempt: Attempt, *, now_ms: int) -> None:
        """Forget the account's failures; raises `TooManyAttemptsError` when it was locked meanwhile.

        Those of the address stay: an account of one's own would undo them.
        """
        await self.refuse_locked(session, attempt, now_ms=now_ms)
        await self.unlock(session, attempt)

    async def unlock(self, session: AsyncSession, attempt: Attempt) -> None:
        """Forget the account's failures."""
        if attempt.account is not None:
            await repository.forget_tally(session, self._key("account", attempt.account))

    def _bounds(self, attempt: Attempt) -> Iterator[tuple[str, Bound]]:
        """Yield what is counted, always in the same order, so that no two wait for each other."""
        if attempt.account is not None:
            yield self._key("account", attempt.account), ACCOUNT
        yield self._key("address", address_group(attempt.address)), ADDRESS

    def _key(self, kind: str, name: str) -> str:
        return keyed_digest(self.key, f"{kind}:{name}")


def _refuse_locked(tally: Tally, *, now_ms: int) -> None:
    if tally.is_locked(now_ms=now_ms):
        raise TooManyAttemptsError(retry_after_s=(tally.locked_until_ms - now_ms + 999) // 1000)
