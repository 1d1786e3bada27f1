"""Locks that one process holds for its life, so that a second one notices; the system or the server takes them back."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from common.db import writing_engine
from common.db_connections import DatabaseUrl
from common.db_failures import as_outage, takes_writes


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
    """A lock of the server, which takes it back when the connection ends; `take` then asks for it again.

    One of a server that takes no writes counts for nothing: another process may have it where writes are taken.
    `key` is any number, the same for all who exclude one another in a database.
    """

    def __init__(self, database_url: DatabaseUrl, key: int) -> None:
        self._key = key
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
            holds = takes_writes(self._connection)
        except SQLAlchemyError:
            holds = False
        if not holds:
            self._drop()
        return holds

    def _ask(self) -> bool:
        connection = self._engine.connect()
        if not takes_writes(connection):
            connection.close()
            raise as_outage(RuntimeError("a server that takes no writes keeps out nobody elsewhere"))
        if connection.scalar(select(func.pg_try_advisory_lock(self._key))):
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
