"""One ai_service process at a time where the velocity state lives in the process."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ai_service.settings import AiSettings
from common.background import running
from common.db_connections import is_sqlite, parsed
from common.errors import StartupError
from common.owner_locks import AdvisoryLock, FileLock

ADVISORY_LOCK: Final = 7_261_190_425
CHECK_S: Final = 2.0
_log = structlog.get_logger()


class AlreadyRunningError(StartupError):
    """Another ai_service process holds the velocity state of this database, or the file it is kept in."""


@dataclass
class OnlyProcess:
    """The right to keep the velocity state in memory; several processes share one only in Valkey."""

    lock: AdvisoryLock | FileLock | None = None
    is_held: bool = True

    async def held(self) -> bool:
        """Readiness: whether no other process can have taken over."""
        return self.is_held

    async def keep(self) -> None:
        """Notice when the lock was lost with its connection, and take it again; stop where another process has it."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.look()

    async def look(self) -> None:
        """Make sure that the lock is held, once."""
        try:
            self.is_held = self.lock is None or await asyncio.to_thread(self.lock.take)
        except SQLAlchemyError as error:
            self.is_held = False
            _log.warning("only_process.not_known", error=type(error).__name__)
            return
        if not self.is_held:
            # two would count the same payments apart from each other
            _log.error("only_process.taken_over")
            os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def only_process(settings: AiSettings) -> AsyncIterator[OnlyProcess]:
    """Be the only one while the block runs, unless others may share; raises `AlreadyRunningError`."""
    if settings.may_have_others:
        yield OnlyProcess()
        return
    path = settings.velocity_snapshot.with_suffix(".lock")
    async with _taken(settings, FileLock(path), path.name) as on_this_machine:
        if is_sqlite(settings.database_url):
            yield on_this_machine
            return
        lock = AdvisoryLock(settings.database_url, ADVISORY_LOCK)
        async with _taken(settings, lock, "this database") as anywhere, running(anywhere.keep):
            yield anywhere


@asynccontextmanager
async def _taken(
    settings: AiSettings, lock: AdvisoryLock | FileLock, what: str
) -> AsyncIterator[OnlyProcess]:
    try:
        if not await asyncio.to_thread(lock.take):
            raise AlreadyRunningError(
                f"Another ai_service already uses {what} (database {parsed(settings.database_url).render_as_string()}). "
                "The velocity state lives in one process: stop the other one, give this one its own VELOCITY_SNAPSHOT "
                "and DATABASE_URL, or let them share by PostgreSQL and VALKEY_URL."
            )
        yield OnlyProcess(lock)
    finally:
        await asyncio.to_thread(lock.release)
