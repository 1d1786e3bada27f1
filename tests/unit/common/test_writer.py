import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from common.db import writing_engine
from common.errors import UnavailableError
from common.writer import DatabaseWriter
from tests.waiting import PATIENCE_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE numbers (number INTEGER PRIMARY KEY);
            CREATE TABLE children (parent INTEGER REFERENCES numbers (number) DEFERRABLE INITIALLY DEFERRED);
            """
        )
    return path


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[DatabaseWriter]:
    made = DatabaseWriter(writing_engine(f"sqlite:///{path}"))
    yield made
    await made.close()


def saved(path: Path) -> list[int]:
    """Return what another connection sees."""
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]


def insert(connection: Connection, number: int) -> int:
    connection.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})
    return number


class TestRun:
    async def test_returns_what_the_job_returns_once_it_is_committed(
        self, writer: DatabaseWriter, path: Path
    ) -> None:
        result = await writer.run(lambda c: insert(c, 7))

        assert result == 7
        assert saved(path) == [7]

    async def test_runs_jobs_one_after_another_on_one_thread(self, writer: DatabaseWriter) -> None:
        seen: list[tuple[str, int]] = []

        def note(number: int) -> None:
            seen.append((threading.current_thread().name, number))

        await asyncio.gather(*(writer.run(lambda _c, n=number: note(n)) for number in range(20)))  # type: ignore[misc]

        assert seen == [("database-writer", number) for number in range(20)]

    async def test_syncs_every_commit_to_disk(self, writer: DatabaseWriter) -> None:
        modes = await writer.run(
            lambda c: (c.scalar(text("PRAGMA journal_mode")), c.scalar(text("PRAGMA synchronous")))
        )

        assert modes == ("wal", 2)

    async def test_rolls_everything_back_when_the_job_fails(self, writer: DatabaseWriter, path: Path) -> None:
        def fail(connection: Connection) -> None:
            insert(connection, 1)
            raise ValueError("on second thoughts")

        with pytest.raises(ValueError, match="on second thoughts"):
            await writer.run(fail)

        assert saved(path) == []

    async def test_goes_on_after_an_error(self, writer: DatabaseWriter, path: Path) -> None:
        await writer.run(lambda c: insert(c, 1))
        with pytest.raises(IntegrityError):
            await writer.run(lambda c: insert(c, 1))

        await writer.run(lambda c: insert(c, 2))

        assert saved(path) == [1, 2]

    async def test_raises_when_only_the_commit_fails(self, writer: DatabaseWriter, path: Path) -> None:
        def orphan(connection: Connection) -> None:
            insert(connection, 1)
            connection.execute(text("INSERT INTO children VALUES (99)"))

        with pytest.raises(IntegrityError):
            await writer.run(orphan)
        await writer.run(lambda c: insert(c, 2))

        assert saved(path) == [2]

    async def test_raises_while_another_process_holds_the_file_and_goes_on_after_it(self, path: Path) -> None:
        engine = writing_engine(f"sqlite:///{path}")
        writer = DatabaseWriter(engine)
        await writer.run(lambda c: c.execute(text("PRAGMA busy_timeout = 1")))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(OperationalError):
                await writer.run(lambda c: insert(c, 1))

        await writer.run(lambda c: insert(c, 2))
        await writer.close()

        assert saved(path) == [2]

    async def test_no_error_text_holds_a_parameter(self, writer: DatabaseWriter) -> None:
        with pytest.raises(IntegrityError) as caught:
            await writer.run(
                lambda c: c.execute(
                    text("INSERT INTO children VALUES (:x), (:y)"), {"x": 424242, "y": 434343}
                )
            )

        assert "424242" not in str(caught.value)


class TestCallersThatGoAway:
    async def test_a_cancelled_callers_job_still_commits(self, writer: DatabaseWriter, path: Path) -> None:
        may_go_on, started = threading.Event(), threading.Event()

        def slow(connection: Connection) -> None:
            insert(connection, 1)
            started.set()
            may_go_on.wait(PATIENCE_S)

        caller = asyncio.create_task(writer.run(slow))
        await asyncio.to_thread(started.wait, PATIENCE_S)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        may_go_on.set()
        await writer.run(lambda c: insert(c, 2))

        assert saved(path) == [1, 2]

    async def test_a_cancelled_callers_failing_job_is_no_ones_problem(self, writer: DatabaseWriter) -> None:
        may_go_on = threading.Event()

        def fail(_connection: Connection) -> None:
            may_go_on.wait(PATIENCE_S)
            raise ValueError("nobody hears this")

        caller = asyncio.create_task(writer.run(fail))
        await asyncio.sleep(0)
        caller.cancel()
        may_go_on.set()

        assert await writer.run(lambda c: insert(c, 2)) == 2

    def test_the_thread_survives_an_event_loop_that_is_closed_before_its_job_is_done(
        self, path: Path
    ) -> None:
        writer = DatabaseWriter(writing_engine(f"sqlite:///{path}"))
        may_go_on = threading.Event()

        async def leave() -> None:
            jobs = [
                asyncio.create_task(writer.run(lambda _c: may_go_on.wait(PATIENCE_S))),
                asyncio.create_task(writer.run(lambda _c: 1 // 0)),
            ]
            await asyncio.sleep(0)
            for job in jobs:
                job.cancel()

        asyncio.run(leave())
        may_go_on.set()

        async def come_back() -> int:
            async with asyncio.timeout(PATIENCE_S):
                number = await writer.run(lambda c: insert(c, 3))
                await writer.close()
            return number

        assert asyncio.run(come_back()) == 3
        assert saved(path) == [3]


class TestClose:
    async def test_finishes_the_jobs_that_were_handed_in(self, path: Path) -> None:
        writer = DatabaseWriter(writing_engine(f"sqlite:///{path}"))
        jobs = [asyncio.create_task(writer.run(lambda c, n=n: insert(c, n))) for n in range(50)]  # type: ignore[misc]
        await asyncio.sleep(0)

        await writer.close()

        assert saved(path) == list(range(50))
        assert await asyncio.gather(*jobs) == list(range(50))

    async def test_ends_the_thread(self, path: Path) -> None:
        before = set(threading.enumerate())
        writer = DatabaseWriter(writing_engine(f"sqlite:///{path}"))
        (thread,) = set(threading.enumerate()) - before

        await writer.close()

        assert not thread.is_alive()

    async def test_later_jobs_are_refused_rather_than_left_waiting(self, path: Path) -> None:
        writer = DatabaseWriter(writing_engine(f"sqlite:///{path}"))
        await writer.close()

        with pytest.raises(UnavailableError):
            await writer.run(lambda c: insert(c, 1))
