"""Lets one process take part in what another changed: it looks every two seconds, and at once when it is told."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Never

import structlog
from sqlalchemy.exc import SQLAlchemyError

from common.changes.repository import Subject
from common.changes.tables import FOR_ALL
from common.errors import PlatformError

POLL_S = 2.0
MAX_PAUSE_S = 30.0
LONG_AGO = 10  # failures, after which the pause is the longest anyhow
Read = Callable[[], Awaitable[Mapping[Subject, int]]]
TakeOver = Callable[[str], Awaitable[None]]
"""Takes over what changed for a scope: an institution, or `FOR_ALL`. What it raises is logged, and tried again."""
_log = structlog.get_logger()


@dataclass(slots=True)
class _Seen:
    """The version that was taken over last, and when one that could not be is tried again."""

    version: int = 0
    failures: int = 0
    not_before: float = 0.0


class ChangeWatch:
    """Compares the versions in the database with those this process has taken over; the database is the truth.

    A process reads what is there before it begins to watch. So `start` is called first, and what changes in between is
    taken over twice, never missed.
    """

    def __init__(
        self, read: Read, take_over: Mapping[str, TakeOver], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._take_over = take_over
        self._clock = clock
        self._seen: dict[Subject, _Seen] = {}
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Look now rather than at the next time."""
        self._told.set()

    async def start(self) -> None:
        """Count what has changed until now as taken over."""
        for subject, version in (await self._read()).items():
            self._seen[subject] = _Seen(version)

    def try_again(self, topic: str, scope: str = FOR_ALL) -> None:
        """Take over at the next look what this process could not when it started."""
        self._seen[topic, scope] = _Seen()

    async def run(self) -> Never:
        """Look again and again; runs until cancelled."""
        while True:
            self._told.clear()
            try:
                await self.look()
            except (SQLAlchemyError, PlatformError, OSError) as error:
                _log.warning("changes.not_read", error=type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._told.wait()

    async def look(self) -> None:
        """Take over whatever is newer than what this process has."""
        for subject, version in (await self._read()).items():
            seen = self._seen.setdefault(subject, _Seen())
            if version != seen.version and self._clock() >= seen.not_before:
                await self._try(subject, version, seen)

    async def _try(self, subject: Subject, version: int, seen: _Seen) -> None:
        topic, scope = subject
        handler = self._take_over.get(topic)
        if handler is not None:
            try:
                await handler(scope)
            except Exception as error:  # noqa: BLE001 - the boundary: one topic must not stop the others
                seen.failures += 1
                pause_s = min(MAX_PAUSE_S, POLL_S * 2.0 ** min(seen.failures - 1, LONG_AGO))
                seen.not_before = self._clock() + pause_s
                _log.warning(
                    "change.not_taken_over", topic=topic, version=version, error=type(error).__name__
                )
                return
            _log.info("change.taken_over", topic=topic, version=version)
        seen.version, seen.failures, seen.not_before = version, 0, 0.0
