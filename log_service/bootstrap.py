"""Builds every collaborator of log_service once, and takes them down in the order that loses nothing.

`build` is over the house limit: it is one list of what is opened, in the order in which it is closed again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from common.background import running
from common.db import open_database, writing_engine
from common.replica import open_replica
from common.service_calls import open_service_calls
from common.valkey.calls import open_shared
from common.writer import DatabaseWriter
from log_service.archive import repository
from log_service.archive.archiver import Archiver
from log_service.archive.ownership import owned
from log_service.archive.reading import DatabaseReader
from log_service.archive.repository import Amount
from log_service.archive.s3_store import READERS, open_s3_store
from log_service.archive.service import STREAMS, ArchiveReader
from log_service.archive.spool import AuditSpool
from log_service.archive.spool_store import open_spool_store
from log_service.settings import LogSettings

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: LogSettings) -> AsyncIterator[dict[str, Any]]:
    """Open what the service uses; at the end, archive what can be archived in GRACEFUL_SHUTDOWN_S.

    Raises `StartupError` when another process owns the database.
    """
    async with AsyncExitStack() as opened:
        ownership = await opened.enter_async_context(owned(settings.database_url))
        database = await opened.enter_async_context(
            open_database(settings.database_url, migrations=MIGRATIONS, production=settings.is_production)
        )
        valkey = await opened.enter_async_context(open_shared(settings))
        calls = await opened.enter_async_context(
            open_service_calls(settings, client_id="log_service", valkey=valkey)
        )
        store = await opened.enter_async_context(open_s3_store(settings))
        reading = writing_engine(settings.database_url)
        opened.callback(reading.dispose)
        reader = DatabaseReader(reading)
        lists = await opened.enter_async_context(open_replica(settings.read_database_url, reader))
        writer = DatabaseWriter(writing_engine(settings.database_url))
        opened.push_async_callback(writer.close)
        spool = AuditSpool(
            await opened.enter_async_context(open_spool_store(settings.database_url, writer)),
            most=Amount(settings.spool_max_records, settings.spool_max_bytes),
            spooled=await reader.run(repository.count_spooled),
            wake_after=settings.archive_object_records,
        )
        archiver = Archiver(
            ownership=ownership,
            reader=reader,
            writer=writer,
            spool=spool,
            store=store,
            interval_s=settings.archive_interval_s,
            object_records=settings.archive_object_records,
            concurrency=settings.s3_put_concurrency,
            sealed=asyncio.Event(),
        )
        async with running(archiver.keep_sealing, archiver.keep_storing):
            yield {
                "readiness": {
                    "database_connected": database.connected,
                    "keys_loaded": calls.keys_loaded,
                    "access_known": calls.access_known,
                },
                "token_verifier": calls.verifier,
                "valkey": valkey,
                "database": database,
                "spool": spool,
                "archive": ArchiveReader(
                    reader,
                    lists,
                    store,
                    slots=asyncio.Semaphore(READERS),
                    streams=asyncio.Semaphore(STREAMS),
                ),
            }
            await spool.drain()
        await archiver.finish(timeout_s=settings.graceful_shutdown_s)
