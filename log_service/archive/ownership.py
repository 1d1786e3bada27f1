"""One process at a time owns the spool: it counts what waits, gives objects their numbers and stores them.

Beside a SQLite file a lock on `<file>.owner` says who the owner is; over PostgreSQL an advisory lock does, held by a
connection of its own. Both end with the process, however it ends. A process that starts waits for its predecessor to
end, and gives up after `WAIT_S`; so a new release starts when the old one was told to stop, not before.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Protocol

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from common.db import writing_engine
from common.errors import StartupError, UnavailableError

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
async def owned(database_url: str, *, wait_s: float = WAIT_S) -> AsyncIterator[Ownership]:
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


def _lock_of(database_url: str) -> OwnerLock:
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return FileLock(Path(f"{url.database}.owner"))
    return AdvisoryLock(database_url)


class FileLock:
    """A lock on a file, which the system takes back when the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Return whether the lock is held now."""
        if self._file is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class AdvisoryLock:
    """A lock of the server, which takes it back when the connection ends; `take` then asks for it again."""

    def __init__(self, database_url: str) -> None:
        self._engine = writing_engine(database_url).execution_options(isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None
        self._turn = Lock()  # sealing and storing both ask

    def take(self) -> bool:
        """Return whether the lock is held now; asks for it again when the connection was lost."""
        with self._turn:
            return self._holds() or self._ask()

    def release(self) -> None:
        """Let another process have it."""
        with self._turn:
            self._drop()
            self._engine.dispose()

    def _holds(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            self._drop()
            return False
        return True

    def _ask(self) -> bool:
        connection = self._engine.connect()
        if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
            self._connection = connection
            return True
        connection.close()
        return False

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.invalidate()  # closed, not given back to the pool: the lock goes with it
                connection.close()
