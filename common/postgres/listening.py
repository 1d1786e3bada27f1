"""Hears PostgreSQL's NOTIFY on a connection of its own; what it misses is found by looking."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Never

import asyncpg
import structlog

from common.background import Loop
from common.changes.repository import CHANNEL
from common.changes.watch import ChangeWatch
from common.db_connections import DatabaseUrl, is_sqlite
from common.db_tls import asyncpg_dsn, server_settings

CONNECT_TIMEOUT_S = 5.0
RETRY_S = 2.0
_log = structlog.get_logger()


class ChangeListener:
    """Calls `told` whenever somebody announced a change, and after every reconnect, because some may have been missed."""

    def __init__(self, database_url: DatabaseUrl, told: Callable[[], None]) -> None:
        self._address = asyncpg_dsn(database_url)
        self._settings = server_settings(database_url)
        self._told = told

    async def run(self) -> Never:
        """Listen until cancelled; a lost connection is opened again."""
        while True:
            try:
                await self._listen()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                _log.warning("changes.not_heard", error=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._address, timeout=CONNECT_TIMEOUT_S, server_settings=self._settings
        )
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            await connection.add_listener(CHANNEL, lambda *_: self._told())
            self._told()
            await ended.wait()
        finally:
            connection.terminate()


def watching_loops(watch: ChangeWatch, database_url: DatabaseUrl) -> Sequence[Loop]:
    """Return what has to run for `watch`: its own look, and on PostgreSQL an ear for what is announced."""
    if is_sqlite(database_url):
        return [watch.run]
    return [watch.run, ChangeListener(database_url, watch.tell).run]
