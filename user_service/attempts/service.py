"""Counts failed attempts, durably and for all workers, and refuses more of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import PlatformError
from user_service.account_tasks.repository import add_task
from user_service.account_tasks.tables import TaskKind
from user_service.attempts import repository
from user_service.attempts.locks import Lock
from user_service.attempts.policy import (
    BOUNDS,
    CODES,
    KNOWN_MS,
    PASSWORDS,
    Counted,
    Guessed,
    Tally,
    address_group,
    after_failure,
    also_on,
    is_closed_to,
)
from user_service.derived_keys import keyed_digest

MOST_TALLIES = 500_000
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
        """Raise `TooManyAttemptsError` while nothing is tried at this account from this address.

        The same is asked of the database whether the account exists, and is known at the address, or not.
        """
        known = await self._is_known(session, attempt, now_ms=now_ms)
        keys = self._keys(attempt)
        found = await repository.read_tallies(session, keys.values())
        closed = [
            found[key] for counted, key in keys.items() if key in found and is_closed_to(counted, known=known)
        ]
        _refuse(closed, now_ms=now_ms)

    async def failed(
        self, session: AsyncSession, attempt: Attempt, *, user_id: str | None, now_ms: int
    ) -> None:
        """Count a wrong password or mailed token; whoever calls it raises an error that keeps changes.

        Raises `TooManyAttemptsError` when others that ran at the same time have used up what may be tried: their
        answers are all that was learned.
        """
        await self._failed(session, attempt, PASSWORDS, user_id=user_id, now_ms=now_ms)

    async def failed_code(
        self, session: AsyncSession, attempt: Attempt, *, user_id: str, now_ms: int
    ) -> None:
        """Count a wrong code that was shown with the right password, as `failed` counts passwords.

        It is counted apart from those, and for a week: nobody gets here without the password.
        """
        await self._failed(session, attempt, CODES, user_id=user_id, now_ms=now_ms)

    async def succeeded(self, session: AsyncSession, attempt: Attempt, *, now_ms: int) -> None:
        """Forgive what failed at this account from this address; raises `TooManyAttemptsError` as `failed` does.

        What strangers tried elsewhere stays, and so does the address's: an account of one's own would undo it.
        """
        await self.refuse_locked(session, attempt, now_ms=now_ms)
        keys = self._keys(attempt)
        for guessed in (PASSWORDS, CODES):
            await repository.forgive(session, account=keys[guessed.over_all], place=keys[guessed.at_place])

    async def unlock(self, session: AsyncSession, account: str) -> None:
        """Forget all failures at an account, named by its `email_key`."""
        await repository.forget_account(session, self._key(Counted.ACCOUNT, account))

    async def note_known(self, session: AsyncSession, attempt: Attempt, *, now_ms: int) -> None:
        """Remember that somebody has shown, at this address, that the account is theirs."""
        keys = self._keys(attempt)
        await repository.note_known(
            session, keys[Counted.PLACE], account=keys[Counted.ACCOUNT], now_ms=now_ms
        )

    async def refuse_session(self, session: AsyncSession, session_id: str, *, now_ms: int) -> None:
        """Raise `TooManyAttemptsError` while nothing is tried in this session."""
        key = self._key(Counted.SESSION, session_id)
        _refuse((await repository.read_tallies(session, [key])).values(), now_ms=now_ms)

    async def failed_in_session(self, session: AsyncSession, session_id: str, *, now_ms: int) -> bool:
        """Count a failure of somebody who is logged in, and say whether it locked; raises as `failed` does."""
        key = self._key(Counted.SESSION, session_id)
        seen = await repository.hold_tally(session, key, account=None, now_ms=now_ms)
        _refuse([seen], now_ms=now_ms)
        tally = after_failure(seen, BOUNDS[Counted.SESSION], now_ms=now_ms)
        await _keep(session, Counted.SESSION, key, tally, now_ms=now_ms)
        return tally.is_locked(now_ms=now_ms)

    async def _failed(
        self, session: AsyncSession, attempt: Attempt, guessed: Guessed, *, user_id: str | None, now_ms: int
    ) -> None:
        known = await self._is_known(session, attempt, now_ms=now_ms)
        tallies = await self._count(session, attempt, guessed, known=known, now_ms=now_ms)
        locked = {counted: tally for counted, tally in tallies.items() if tally.is_locked(now_ms=now_ms)}
        closed = guessed.at_place if known and guessed.at_place in locked else guessed.over_all
        if closed in locked:
            lock = Lock(
                locked[closed].locked_until_ms,
                locked[closed].failures,
                address_group(attempt.address),
                at_known_address=closed is guessed.at_place,
                password_was_right=guessed is CODES,
            )
            await add_task(session, TaskKind.LOCKED, user_id=user_id, details=lock.as_text(), now_ms=now_ms)

    async def _count(
        self, session: AsyncSession, attempt: Attempt, guessed: Guessed, *, known: bool, now_ms: int
    ) -> dict[Counted, Tally]:
        """Count one failure in everything that it counts in, and return what that came to."""
        keys = self._keys(attempt)
        tallies: dict[Counted, Tally] = {}
        for counted in (guessed.over_all, guessed.at_place, Counted.ADDRESS):
            if counted not in keys:
                continue  # no account was named
            key = keys[counted]
            seen = await repository.hold_tally(session, key, account=keys.get(Counted.ACCOUNT), now_ms=now_ms)
            if is_closed_to(counted, known=known):
                _refuse([seen], now_ms=now_ms)
            elif seen.is_locked(now_ms=now_ms):
                continue  # it is about others, and stays as it is
            tally = after_failure(seen, BOUNDS[counted], now_ms=now_ms)
            if counted is guessed.at_place and guessed.over_all in tallies:
                tally = also_on(tallies[guessed.over_all], tally)
            await _keep(session, counted, key, tally, now_ms=now_ms)
            tallies[counted] = tally
        return tallies

    async def _is_known(self, session: AsyncSession, attempt: Attempt, *, now_ms: int) -> bool:
        place = self._keys(attempt).get(Counted.PLACE)
        return place is not None and await repository.is_known(session, place, since_ms=now_ms - KNOWN_MS)

    def _keys(self, attempt: Attempt) -> dict[Counted, str]:
        """Return what is counted, always in the same order, so that no two wait for each other."""
        group = address_group(attempt.address)
        address = {Counted.ADDRESS: self._key(Counted.ADDRESS, group)}
        if attempt.account is None:
            return address
        place = f"{group} {attempt.account}"
        return {
            Counted.ACCOUNT: self._key(Counted.ACCOUNT, attempt.account),
            Counted.PLACE: self._key(Counted.PLACE, place),
            Counted.CODES: self._key(Counted.CODES, attempt.account),
            Counted.CODES_AT_PLACE: self._key(Counted.CODES_AT_PLACE, place),
            **address,
        }

    def _key(self, counted: Counted, name: str) -> str:
        return keyed_digest(self.key, f"{counted.value}:{name}")


async def forget_old(session: AsyncSession, *, now_ms: int) -> None:
    """Forget what counts no more, and keep the rest bounded."""
    await repository.forget_old_tallies(session, now_ms=now_ms)
    await repository.forget_known(session, before_ms=now_ms - KNOWN_MS)
    dropped = await repository.forget_tallies_beyond(session, MOST_TALLIES)
    if dropped:
        _log.warning("attempts.dropped", count=dropped)


async def _keep(session: AsyncSession, counted: Counted, key: str, tally: Tally, *, now_ms: int) -> None:
    await repository.keep_tally(session, key, tally)
    if tally.is_locked(now_ms=now_ms):
        _log.warning("attempts.locked", of=counted.value)


def _refuse(tallies: Iterable[Tally], *, now_ms: int) -> None:
    """Raise `TooManyAttemptsError` if any of `tallies` says so; it says when the last of them does no more."""
    until_ms = max((tally.refused_until_ms for tally in tallies), default=0)
    if now_ms < until_ms:
        raise TooManyAttemptsError(retry_after_s=(until_ms - now_ms + 999) // 1000)
