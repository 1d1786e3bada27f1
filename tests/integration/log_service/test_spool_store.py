"""Keeping records in the spool: the same promises on either engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from common.contracts.audit_records import RecordsAccepted
from common.db import migrate, writing_engine
from common.failpoints import FailpointError, armed
from common.writer import DatabaseWriter
from log_service.archive import repository
from log_service.archive.records import RecordConflictError, checked
from log_service.archive.repository import Amount
from log_service.archive.spool_store import SpoolStore, open_spool_store
from log_service.bootstrap import MIGRATIONS
from tests.api.log_service.harness import make_record, make_records


@pytest.fixture(params=["sqlite", "postgresql"])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[SpoolStore, DatabaseWriter]]:
    """What keeps records on each engine, and what looks at them."""
    url: str = (
        f"sqlite:///{tmp_path}/log.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    migrate(url, migrations=MIGRATIONS)
    async with AsyncExitStack() as stack:
        writer = DatabaseWriter(writing_engine(url))
        stack.push_async_callback(writer.close)
        yield await stack.enter_async_context(open_spool_store(url, writer)), writer


class TestAccept:
    @pytest.mark.parametrize("count", [1, 500])
    async def test_keeps_every_new_record_with_its_body_once(
        self, opened: tuple[SpoolStore, DatabaseWriter], count: int
    ) -> None:
        store, writer = opened
        batch = checked(make_records(count))

        first = await store.accept([batch])
        again = await store.accept([batch, checked([make_record(count + 1)])])

        assert first.results == [RecordsAccepted(accepted=count, repeated=0)]
        assert again.results == [
            RecordsAccepted(accepted=0, repeated=count),
            RecordsAccepted(accepted=1, repeated=0),
        ]
        assert (await writer.run(repository.count_spooled)).records == count + 1
        assert first.added == Amount(count, sum(len(record.body) for record in batch))

    async def test_refuses_a_batch_with_a_conflict_as_a_whole_and_keeps_the_others(
        self, opened: tuple[SpoolStore, DatabaseWriter]
    ) -> None:
        store, writer = opened
        await store.accept([checked([make_record(1)])])

        refused, kept = (
            await store.accept(
                [checked([make_record(2), make_record(1, note="another")]), checked([make_record(3)])]
            )
        ).results

        assert isinstance(refused, RecordConflictError)
        assert kept == RecordsAccepted(accepted=1, repeated=0)
        assert (await writer.run(repository.count_spooled)).records == 2

    async def test_counts_a_record_once_that_comes_twice_at_the_same_moment(
        self, opened: tuple[SpoolStore, DatabaseWriter]
    ) -> None:
        store, writer = opened

        answers = await asyncio.gather(*(store.accept([checked(make_records(20))]) for _ in range(8)))

        assert sum(each.added.records for each in answers) == 20
        assert (await writer.run(repository.count_spooled)).records == 20

    async def test_that_fails_keeps_nothing(self, opened: tuple[SpoolStore, DatabaseWriter]) -> None:
        store, writer = opened

        with armed("spool.before_commit:error"), pytest.raises(FailpointError):
            await store.accept([checked(make_records(3))])

        assert await writer.run(repository.count_spooled) == Amount(0, 0)
