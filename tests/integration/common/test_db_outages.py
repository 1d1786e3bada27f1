"""A database that is locked, ended or standing still: nobody waits without end, and it is used again afterwards."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, OperationalError

from common.db import Database, writing_engine
from common.db_connections import Timeouts
from common.writer import DatabaseWriter
from tests.api.common.conftest import Tiny, assert_problem
from tests.api.common.test_commit import writing
from tests.postgres import PostgresServer, postgres_folder, running_postgres
from tests.servers import free_port
from tests.waiting import eventually

SHORT = Timeouts(statement=600, lock=300, idle_in_transaction=500, answer=1_000)
ONE = select(1)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own, which it may stop."""
    with running_postgres() as started:
        with psycopg.connect(started.url("postgres", role="postgres"), autocommit=True) as connection:
            connection.execute("CREATE TABLE notes (number INTEGER PRIMARY KEY)")
            connection.execute("GRANT ALL ON notes TO assay")
        yield started


@pytest.fixture
def data() -> Iterator[Path]:
    """Where a server keeps what a later one finds."""
    with postgres_folder() as folder:
        yield folder


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[tuple[httpx.AsyncClient, Database]]:
    """Run a small service over a database, with short timeouts."""
    database = Database(url, timeouts=SHORT)
    async with Tiny(state={"database": database}, routers=[writing()]).open() as client:
        yield client, database
    await database.engine.dispose()


class TestALock:
    async def test_that_is_not_let_go_ends_in_503(self, server: PostgresServer) -> None:
        url = server.url("postgres")
        async with serving(url) as (client, _database):
            with psycopg.connect(url) as other:
                other.execute("INSERT INTO notes VALUES (7)")

                refused = await client.put("/v1/notes/7")

                other.rollback()
            taken = await client.put("/v1/notes/7")

        assert_problem(refused, 503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        assert taken.status_code == 200

    async def test_held_by_a_process_that_stands_still_is_taken_from_it(self, server: PostgresServer) -> None:
        engine = writing_engine(server.url("postgres"), timeouts=SHORT)
        with engine.connect() as forgotten:
            forgotten.execute(ONE)

            async def is_ended() -> bool:
                with psycopg.connect(server.url("postgres")) as looking:
                    found = looking.execute(
                        "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
                    )
                    return found.fetchone() is None

            await eventually(is_ended)

            with pytest.raises(DBAPIError):
                forgotten.execute(ONE)
        engine.dispose()


class TestAStatement:
    def test_that_takes_too_long_is_ended(self, server: PostgresServer) -> None:
        engine = writing_engine(server.url("postgres"), timeouts=SHORT)
        with engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(select(func.pg_sleep(30)))
        engine.dispose()

    @pytest.mark.parametrize("query", ["", "?options=-c%20statement_timeout%3D8s"])
    def test_of_a_migration_takes_as_long_as_it_takes(self, server: PostgresServer, query: str) -> None:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        for name in names:
            server.execute(f"ALTER ROLE assay SET {name} = '9s'")
        engine = writing_engine(server.url("postgres") + query, timeouts=None)
        with engine.connect() as connection:
            limits = [connection.scalar(select(func.current_setting(name))) for name in names]
        engine.dispose()

        assert limits == ["0", "0", "0"]


class TestAServer:
    async def test_that_ended_and_came_back_is_used_again(self, data: Path) -> None:
        port = free_port()
        with running_postgres("synchronous_commit=on", data=data, port=port) as first:
            url = first.create_database("notes")
            with psycopg.connect(url) as connection:
                connection.execute("CREATE TABLE notes (number INTEGER PRIMARY KEY)")
            database = Database(url, timeouts=SHORT)
            writer = DatabaseWriter(writing_engine(url, timeouts=SHORT))
            async with Tiny(state={"database": database}, routers=[writing()]).open() as client:
                before = await client.put("/v1/notes/1")
                await writer.run(lambda c: c.execute(ONE))
                first.process.send_signal(signal.SIGQUIT)  # as a crash: no session hears a word
                first.process.wait(20)
                away = await client.put("/v1/notes/2")
                with pytest.raises(OperationalError):
                    await writer.run(lambda c: c.execute(ONE))

                with running_postgres(data=data, port=port):
                    after = await client.put("/v1/notes/2")
                    again = await writer.run(lambda c: c.scalar(ONE))
                    await writer.close()
                    await database.engine.dispose()

        assert before.status_code == 200
        assert_problem(away, 503, "unavailable")
        assert (after.status_code, again) == (200, 1)

    async def test_that_stands_still_is_given_up(self, server: PostgresServer) -> None:
        async with serving(server.url("postgres")) as (client, database):
            before = await client.put("/v1/notes/1")
            server.process.send_signal(signal.SIGSTOP)
            stop_children(server)

            still = await client.put("/v1/notes/2")
            ready = await database.connected()

            go_on(server)
            after = await client.put("/v1/notes/2")

        assert before.status_code == 200
        assert_problem(still, 503, "unavailable")
        assert not ready
        assert after.status_code == 200

    async def test_that_stands_still_holds_up_no_thread(self, server: PostgresServer) -> None:
        writer = DatabaseWriter(writing_engine(server.url("postgres"), timeouts=SHORT))
        await writer.run(lambda c: c.execute(ONE))
        stop_children(server)
        server.process.send_signal(signal.SIGSTOP)

        with pytest.raises(OperationalError):
            await writer.run(lambda c: c.execute(ONE))

        go_on(server)
        found = await writer.run(lambda c: c.scalar(ONE))
        await writer.close()
        assert found == 1


def children(server: PostgresServer) -> list[int]:
    """Return the processes of a server that serve its sessions."""
    found = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in found.split()]


def stop_children(server: PostgresServer) -> None:
    for pid in children(server):
        os.kill(pid, signal.SIGSTOP)


def go_on(server: PostgresServer) -> None:
    for pid in (*children(server), server.process.pid):
        os.kill(pid, signal.SIGCONT)
