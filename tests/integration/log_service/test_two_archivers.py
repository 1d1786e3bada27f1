"""What the statements do when two processes store, which the owner's lock is there to prevent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, Engine

from common.db import migrate, writing_engine
from common.writer import DatabaseWriter
from log_service.archive import queries
from log_service.archive.archiver import Archiver, Attempt
from log_service.archive.ownership import owned
from log_service.archive.reading import DatabaseReader
from log_service.archive.repository import Amount
from log_service.archive.s3_store import open_s3_store
from log_service.archive.spool import AuditSpool
from log_service.archive.spool_store import SqliteSpoolStore
from log_service.bootstrap import MIGRATIONS
from log_service.settings import LogSettings
from tests.api.log_service.harness import (
    BANK,
    BUCKET,
    DAY,
    NEVER_S,
    Bucket,
    log_settings,
    make_records,
    s3_server,
)
from tests.conftest import RunningUserService

ResultT = TypeVar("ResultT")


class LateReader(DatabaseReader):
    """A reader whose first answer arrives after `meanwhile` has happened."""

    def __init__(self, engine: Engine, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(engine)
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def run(self, job: Callable[[Connection], ResultT]) -> ResultT:
        result = await super().run(job)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return result


@asynccontextmanager
async def archiver_over(settings: LogSettings, *, owner_file: Path) -> AsyncIterator[Archiver]:
    """An archiver with a writer of its own that believes itself the owner."""
    async with AsyncExitStack() as opened:
        reading = writing_engine(settings.database_url)
        opened.callback(reading.dispose)
        writer = DatabaseWriter(writing_engine(settings.database_url))
        opened.push_async_callback(writer.close)
        yield Archiver(
            ownership=await opened.enter_async_context(owned(f"sqlite:///{owner_file}")),
            reader=DatabaseReader(reading),
            writer=writer,
            spool=AuditSpool(
                SqliteSpoolStore(writer), most=Amount(100, 1_000_000), spooled=Amount(0, 0), wake_after=100
            ),
            store=await opened.enter_async_context(open_s3_store(settings)),
            interval_s=NEVER_S,
            object_records=2,
            concurrency=4,
            sealed=asyncio.Event(),
        )


class TestStaleListing:
    @pytest.mark.parametrize("stored_in_between", [1, 3])
    async def test_leaves_objects_stored_that_another_one_stored_in_between(
        self, tmp_path: Path, users: RunningUserService, stored_in_between: int
    ) -> None:
        (tmp_path / "s3" / BUCKET).mkdir(parents=True)
        with s3_server(tmp_path / "s3") as bucket:
            settings = log_settings(tmp_path, users, Bucket(bucket.url, bucket.folder))
            migrate(settings.database_url, migrations=MIGRATIONS)
            async with (
                archiver_over(settings, owner_file=tmp_path / "one") as one,
                archiver_over(settings, owner_file=tmp_path / "other") as other,
            ):
                await one.spool.accept(make_records(6), writer="ai_service")
                await one.seal_due(interval_passed=True)
                reading = writing_engine(settings.database_url)
                late = LateReader(reading, lambda: other.store_some(stored_in_between))
                stale = replace(one, reader=late)

                attempts = await stale.store_some(4)

                with reading.connect() as connection:
                    listed = queries.objects_of_day(connection, BANK, DAY, after=0, limit=9)
                reading.dispose()
            stored = bucket.objects()

        assert attempts == [Attempt.STORED] * 3
        assert [item.state.value for item in listed] == ["stored"] * 3
        assert list(stored) == [item.key for item in listed]
