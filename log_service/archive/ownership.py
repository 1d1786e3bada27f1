"""One process at a time owns the spool: it counts what waits, gives objects their numbers and stores them.

Beside a SQLite file a lock on `<file>.owner` says who the owner is; over PostgreSQL an advisory lock does, held by a
connection of its own. Both end with the process, however it ends. A process that starts waits for its predecessor to
end, and gives up after `WAIT_S`; so a new release starts when the old one was told to stop, not before.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from common.db_connections import DatabaseUrl, is_sqlite, parsed
from common.errors import StartupError, UnavailableError
from common.owner_locks import AdvisoryLock, FileLock

ADVISORY_LOCK = 7_261_190_424  # any number; the same for every log_service of a database
WAIT_S = 30.0  # the predecessor may take twice GRACEFUL_SHUTDOWN_S
POLL_S = 0.1


class NotOwnerError(UnavailableError):
    """The lock was lost with its connection, and another process has it now."""

    title = "Another process owns the spool"


class OwnerLock(Protocol):
    """A lock that one process has. Its methods block, so they belong into a thread."""

    def take(self) -> bool:
        """Return whether the lock is held now, by this call or since an earlier one."""

    def release(self) -> None:
        """Let another process have it."""


class Ownership:
    """The right to seal and to store."""

    def __init__(self, lock: OwnerLock) -> None:
        self._lock = lock

    async def confirm(self) -> None:
        """Return while this process is the owner; raises `NotOwnerError`."""
        if not await asyncio.to_thread(self._lock.take):
            raise NotOwnerError


@asynccontextmanager
async def owned(database_url: DatabaseUrl, *, wait_s: float = WAIT_S) -> AsyncIterator[Ownership]:
    """Be the owner while the block runs; raises `StartupError` when another process stays the owner for `wait_s`."""
    lock = _lock_of(database_url)
    try:
        await _wait_for(lock, until=time.monotonic() + wait_s)
        yield Ownership(lock)
    finally:
        await asyncio.to_thread(lock.release)


async def _wait_for(lock: OwnerLock, *, until: float) -> None:
    while not await asyncio.to_thread(lock.take):
        if time.monotonic() >= until:
            raise StartupError(
                "another log_service uses this DATABASE_URL. Stop it first; one process owns a database."
            )
        await asyncio.sleep(POLL_S)


def _lock_of(database_url: DatabaseUrl) -> OwnerLock:
    if is_sqlite(database_url):
        return FileLock(Path(f"{parsed(database_url).database}.owner"))
    return AdvisoryLock(database_url, ADVISORY_LOCK)
