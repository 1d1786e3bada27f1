"""What is announced in one transaction reaches every process, on both engines."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, MetaData

from common.changes import watch as watching
from common.changes.repository import announce, versions
from common.changes.tables import FOR_ALL, changes_table
from common.changes.watch import ChangeWatch
from common.db import writing_engine
from common.owner_locks import AdvisoryLock
from common.postgres.listening import ChangeListener
from tests.postgres import PostgresServer
from tests.waiting import eventually

metadata = MetaData()
changes = changes_table(metadata)
KEY = 4711


def opened(url: str) -> Engine:
    engine = writing_engine(url)
    metadata.create_all(engine)
    return engine


def end_connections(server: PostgresServer, url: str) -> None:
    """End every connection to one database, as a server does that fails over."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [url.rpartition("/")[2]],
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/changes.db"
    made = opened(url if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield made
    made.dispose()


class TestAnnouncing:
    def test_counts_versions_by_topic_and_scope(self, engine: Engine) -> None:
        with engine.begin() as connection:
            announce(connection, changes, "model", now_ms=1)
            announce(connection, changes, "rules", scope="ins_a", now_ms=1)
            announce(connection, changes, "model", now_ms=2)
            found = versions(connection, changes)

        assert found == {("model", FOR_ALL): 2, ("rules", "ins_a"): 1}

    def test_is_nothing_before_it_is_committed(self, engine: Engine) -> None:
        with engine.connect() as connection, connection.begin() as transaction:
            announce(connection, changes, "model", now_ms=1)
            transaction.rollback()

        with engine.connect() as connection:
            assert versions(connection, changes) == {}


class TestListening:
    async def test_hears_a_commit_at_once_and_goes_on_when_its_connection_was_ended(
        self, postgres_url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watching, "POLL_S", 3600.0)  # so that only hearing can tell
        engine = opened(postgres_url)
        taken: list[int] = []

        def read() -> dict[tuple[str, str], int]:
            with engine.connect() as connection:
                return dict(versions(connection, changes))

        async def take_over(_scope: str) -> None:
            taken.append(1)

        def change() -> None:
            with engine.begin() as connection:
                announce(connection, changes, "model", now_ms=1)

        async def took(times: int) -> bool:
            return len(taken) >= times

        watch = ChangeWatch(lambda: asyncio.to_thread(read), {"model": take_over})
        await watch.start()
        listener = ChangeListener(postgres_url, watch.tell)
        running = [asyncio.create_task(each()) for each in (watch.run, listener.run)]
        try:
            await asyncio.to_thread(change)
            await eventually(lambda: took(1))
            await asyncio.to_thread(end_connections, postgres_server, postgres_url)
            await asyncio.to_thread(change)  # told while nobody hears it, or heard again
            await eventually(lambda: took(2))
            await asyncio.to_thread(change)
            await eventually(lambda: took(3))
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            engine.dispose()


class TestAdvisoryLock:
    async def test_is_of_one_and_comes_back_after_its_connection_was_ended(
        self, postgres_url: str, postgres_server: PostgresServer
    ) -> None:
        first, second = AdvisoryLock(postgres_url, KEY), AdvisoryLock(postgres_url, KEY)
        held = (first.take(), second.take(), first.take())

        end_connections(postgres_server, postgres_url)
        await eventually(lambda: asyncio.to_thread(second.take))
        noticed = first.take()
        second.release()
        await eventually(lambda: asyncio.to_thread(first.take))
        first.release()

        assert held == (True, False, True)
        assert noticed is False
