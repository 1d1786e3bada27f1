"""What common promises about databases, on a real PostgreSQL."""

import asyncio
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, select, text
from sqlalchemy.exc import ProgrammingError

from common.clock import epoch_ms
from common.db import Database, insert_ignoring_repeats, migrate, writing_engine
from common.delivery import Delivery
from common.outbox import LEASE_MS, Outbox, OutboxEntry, outbox_table
from common.relay import Relay
from common.writer import DatabaseWriter
from tests.api.common.conftest import Tiny, assert_problem
from tests.api.common.test_commit import writing
from tests.migrations import BROKEN, INITIAL, SECOND, write_migrations
from tests.servers import free_port
from tests.waiting import PATIENCE_S, eventually

PROJECT = Path(__file__).parents[3]
METADATA = MetaData()
TABLE = outbox_table(METADATA)
OUTBOX = Outbox(TABLE)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement on a connection of its own, as another process has one."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def waiting_locks(url: str, count: int) -> None:
    """Wait until `count` transactions wait for somebody else's."""

    async def look() -> bool:
        return execute(url, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(count,)]

    await eventually(look)


class TestMigrate:
    def test_makes_tables_and_changes_nothing_the_second_time(
        self, postgres_url: str, tmp_path: Path
    ) -> None:
        folder = write_migrations(tmp_path / "m", INITIAL, SECOND)
        migrate(postgres_url, migrations=folder)
        execute(postgres_url, "UPDATE notes SET text = 'mine'")

        migrate(postgres_url, migrations=folder)

        assert execute(postgres_url, "SELECT * FROM notes") == [(1, "mine")]

    def test_leaves_the_database_as_it_was_when_one_fails(self, postgres_url: str, tmp_path: Path) -> None:
        folder = tmp_path / "m"
        migrate(postgres_url, migrations=write_migrations(folder, INITIAL))

        with pytest.raises(ProgrammingError):
            migrate(postgres_url, migrations=write_migrations(folder, INITIAL, SECOND, BROKEN))

        assert execute(postgres_url, "SELECT * FROM notes") == [(1,)]

    async def test_is_safe_when_processes_start_together(self, postgres_url: str, tmp_path: Path) -> None:
        folder = write_migrations(tmp_path / "m", INITIAL, SECOND)
        program = (
            "import sys; from pathlib import Path; from common.db import migrate;"
            "migrate(sys.argv[1], migrations=Path(sys.argv[2]))"
        )
        with psycopg.connect(postgres_url) as lock:
            lock.execute("SELECT pg_advisory_xact_lock(7261190423)")
            processes = [
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-c",
                    program,
                    postgres_url,
                    str(folder),
                    stderr=asyncio.subprocess.PIPE,
                    cwd=PROJECT,
                )
                for _ in range(3)
            ]
            await waiting_locks(postgres_url, 3)

        complaints = [(await process.communicate())[1].decode() for process in processes]

        assert complaints == ["", "", ""]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert execute(postgres_url, "SELECT * FROM notes") == [(1, "first")]


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = writing_engine(postgres_url)
    METADATA.create_all(made)
    yield made
    made.dispose()


def end_all_others(postgres_url: str) -> None:
    """Let the server end every other connection to this database."""
    execute(
        postgres_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


class TestWriter:
    async def test_commits_before_its_caller_hears_of_it_and_rolls_back_failures(
        self, engine: Engine, postgres_url: str
    ) -> None:
        writer = DatabaseWriter(engine)
        await writer.run(lambda c: OUTBOX.add(c, [OutboxEntry("alert", "a")], now=1, lease_ms=0))
        seen = execute(postgres_url, "SELECT subject_id FROM outbox")

        def fail(connection: Connection) -> None:
            OUTBOX.add(connection, [OutboxEntry("alert", "b")], now=1, lease_ms=0)
            connection.execute(text("SELECT * FROM nowhere"))

        with pytest.raises(ProgrammingError):
            await writer.run(fail)
        await writer.close()

        assert seen == execute(postgres_url, "SELECT subject_id FROM outbox") == [("a",)]

    async def test_goes_on_with_a_new_connection_when_the_server_ended_the_old_one(
        self, engine: Engine, postgres_url: str
    ) -> None:
        writer = DatabaseWriter(engine)
        await writer.run(lambda c: c.execute(text("SELECT 1")))
        end_all_others(postgres_url)

        found = await writer.run(lambda c: c.scalar(text("SELECT 7")))
        await writer.close()

        assert found == 7

    async def test_runs_a_job_again_whose_bulk_statement_found_the_connection_ended(
        self, engine: Engine, postgres_url: str
    ) -> None:
        writer = DatabaseWriter(engine)
        await writer.run(lambda c: c.execute(text("SELECT 1")))
        end_all_others(postgres_url)

        await writer.run(lambda c: OUTBOX.add(c, [OutboxEntry("alert", "a")], now=1, lease_ms=0))
        await writer.close()

        assert execute(postgres_url, "SELECT subject_id FROM outbox") == [("a",)]

    def test_ignores_repeats(self, engine: Engine) -> None:
        table = Table(
            "things", MetaData(), Column("number", Integer, primary_key=True), Column("value", Integer)
        )
        table.metadata.create_all(engine)

        with engine.begin() as connection:
            statement = insert_ignoring_repeats(connection, table)
            connection.execute(statement, [{"number": 1, "value": 1}, {"number": 1, "value": 2}])
            found = connection.execute(select(table)).all()

        assert found == [(1, 1)]


class TestOutbox:
    def test_leases_put_backs_and_wakes_as_on_sqlite(self, engine: Engine) -> None:
        now = epoch_ms()
        with engine.begin() as connection:
            OUTBOX.add(connection, [OutboxEntry("alert", name) for name in "abc"], now=now, lease_ms=0)
            first = OUTBOX.claim(connection, "alert", now=now, limit=2)
            second = OUTBOX.claim(connection, "alert", now=now, limit=2)
            OUTBOX.put_back(connection, "alert", ["a", "b"], now=now, delay_ms=9000, error="away")
            OUTBOX.put_back(connection, "alert", ["c"], now=now, delay_ms=9000, error="refused: status 422")
            OUTBOX.wake(connection, "alert", now=now)
            woken = OUTBOX.claim(connection, "alert", now=now, limit=9)
            OUTBOX.remove(connection, "alert", ["a"])

            assert (first, second, woken) == (["a", "b"], ["c"], ["a", "b"])
            assert OUTBOX.claim(connection, "alert", now=now + LEASE_MS, limit=9) == ["b"]
            assert OUTBOX.pending(connection, "alert") == (2, now)
            assert OUTBOX.pending_subjects(connection, ["a", "b", "c"], targets=["alert", "audit"]) == {
                ("alert", "b"),
                ("alert", "c"),
            }

    def test_two_claims_at_once_neither_wait_for_nor_share_rows(self, engine: Engine) -> None:
        with engine.begin() as connection:
            OUTBOX.add(connection, [OutboxEntry("alert", name) for name in "abcd"], now=1, lease_ms=0)

        with engine.begin() as one, engine.begin() as other:
            first = OUTBOX.claim(one, "alert", now=2, limit=2)
            second = OUTBOX.claim(other, "alert", now=2, limit=9)

        assert (first, second) == (["a", "b"], ["c", "d"])

    def test_many_claim_every_row_once(self, engine: Engine) -> None:
        subjects = [f"s{number:04}" for number in range(1000)]
        with engine.begin() as connection:
            OUTBOX.add(connection, [OutboxEntry("alert", name) for name in subjects], now=1, lease_ms=0)
        ready = threading.Barrier(4)
        claimed: list[list[str]] = [[], [], [], []]

        def take(mine: list[str]) -> None:
            ready.wait(PATIENCE_S)
            taken = ["not yet"]
            while taken:
                with engine.begin() as connection:
                    taken = OUTBOX.claim(connection, "alert", now=2, limit=10)
                mine += taken

        threads = [threading.Thread(target=take, args=(mine,)) for mine in claimed]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)

        assert sorted(subject for mine in claimed for subject in mine) == subjects

    async def test_relays_of_two_processes_tell_each_row_once(
        self, engine: Engine, postgres_url: str
    ) -> None:
        told: list[str] = []
        done = asyncio.Event()

        async def send(subjects: Sequence[str]) -> Delivery:
            await asyncio.sleep(0)
            told.extend(subjects)
            if len(told) >= 300:
                done.set()
            return Delivery("alert", delivered=True)

        writers = [DatabaseWriter(engine), DatabaseWriter(writing_engine(postgres_url))]
        subjects = [f"s{number:03}" for number in range(300)]
        await writers[0].run(
            lambda c: OUTBOX.add(c, [OutboxEntry("alert", name) for name in subjects], now=1, lease_ms=0)
        )
        relays = [
            asyncio.create_task(Relay(writer, OUTBOX, target="alert", send=send, batch=7).run())
            for writer in writers
        ]
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        for writer in writers:
            await writer.close()

        assert sorted(told) == subjects


@pytest.fixture
def notes_url(postgres_url: str) -> str:
    execute(postgres_url, "CREATE TABLE notes (number INTEGER PRIMARY KEY)")
    execute(
        postgres_url,
        "CREATE TABLE orphans (parent INTEGER REFERENCES notes (number) DEFERRABLE INITIALLY DEFERRED)",
    )
    return postgres_url


class TestSessions:
    async def test_commit_before_the_reply_and_a_failing_commit_is_no_success(self, notes_url: str) -> None:
        database = Database(notes_url)
        async with Tiny(state={"database": database}, routers=[writing()]).open() as client:
            saved = await client.put("/v1/notes/7")
            seen = execute(notes_url, "SELECT number FROM notes")
            failed = await client.put("/v1/orphans/99")
            kept = await client.put("/v1/fail/kept/8")
            refused = await client.put("/v1/fail/refused/9")
        await database.engine.dispose()

        assert (saved.status_code, seen) == (200, [(7,)])
        assert_problem(failed, 500, "internal")
        assert_problem(kept, 409, "kept")
        assert_problem(refused, 404, "not-found")
        assert execute(notes_url, "SELECT number FROM notes ORDER BY number") == [(7,), (8,)]
        assert execute(notes_url, "SELECT count(*) FROM orphans") == [(0,)]

    async def test_a_reply_waits_for_a_commit_that_waits(self, notes_url: str) -> None:
        database = Database(notes_url)
        async with Tiny(state={"database": database}, routers=[writing()]).open() as client:
            with psycopg.connect(notes_url) as other:
                other.execute("INSERT INTO notes VALUES (7)")
                waiting = asyncio.create_task(client.put("/v1/notes/7"))
                await waiting_locks(notes_url, 1)
                was_done = waiting.done()
                other.rollback()
            response = await waiting
        await database.engine.dispose()

        assert not was_done
        assert response.status_code == 200

    async def test_a_server_that_is_away_is_an_outage(self) -> None:
        database = Database(f"postgresql://assay@127.0.0.1:{free_port()}/postgres")
        async with Tiny(state={"database": database}, routers=[writing()]).open() as client:
            response = await client.put("/v1/notes/7")
        connected = await database.connected()
        await database.engine.dispose()

        assert_problem(response, 503, "unavailable")
        assert not connected

    async def test_connected_says_whether_it_answers(self, postgres_url: str) -> None:
        database = Database(postgres_url)

        assert await database.connected()
        await database.engine.dispose()


class TestFixture:
    def test_gives_each_test_an_empty_database(self, postgres_url: str) -> None:
        execute(postgres_url, "CREATE TABLE mine (number INTEGER)")

    def test_of_its_own(self, postgres_url: str) -> None:
        execute(postgres_url, "CREATE TABLE mine (number INTEGER)")
