"""A server that answers and takes no writes, as after a failover: it is an outage, and nobody keeps its connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select
from sqlalchemy.exc import OperationalError

from common.bulk import BulkInsert
from common.db import Database, writing_engine
from common.errors import render_problem
from common.owner_locks import AdvisoryLock
from common.postgres.commits import GroupCommits, Transaction, open_group_commits
from common.postgres.statements import Statement
from common.writer import DatabaseWriter
from tests.api.common.conftest import Tiny, assert_problem
from tests.api.common.test_commit import writing
from tests.integration.common.test_postgres import execute
from tests.postgres import PostgresServer, demoted

NOTES = Table("notes", MetaData(), Column("number", Integer, primary_key=True))
COUNT = Statement(select(func.count().label("number")).select_from(NOTES))
ADD = Statement(
    insert(NOTES).values(number=func.coalesce(select(func.max(NOTES.c.number)).scalar_subquery(), 0) + 1)
)
ADD_MANY = BulkInsert(NOTES)


@pytest.fixture
def url(postgres_url: str) -> str:
    execute(postgres_url, "CREATE TABLE notes (number INTEGER PRIMARY KEY)")
    return postgres_url


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[tuple[httpx.AsyncClient, Database]]:
    database = Database(url)
    async with Tiny(state={"database": database}, routers=[writing()]).open() as client:
        yield client, database
    await database.engine.dispose()


async def add(running: Transaction) -> None:
    await running.fetch(ADD)


async def count(running: Transaction) -> int:
    found: int = (await running.fetch(COUNT))[0]["number"]
    return found


async def fill(commits: GroupCommits) -> None:
    """Leave several connections in the pool that only read."""
    await asyncio.gather(*(commits.run(count) for _ in range(4)))


class TestSessions:
    async def test_answer_503_and_write_again_by_themselves(
        self, postgres_server: PostgresServer, url: str
    ) -> None:
        async with serving(url) as (client, database):
            before = await client.put("/v1/notes/1")
            with demoted(postgres_server, url):
                refused = [await client.put(f"/v1/notes/{number}") for number in (2, 3)]
                ready = await database.connected()
            after = await client.put("/v1/notes/4")
            ready_again = await database.connected()

        assert before.status_code == 200
        for response in refused:
            assert_problem(response, 503, "unavailable")
            assert int(response.headers["Retry-After"]) >= 1
        assert (ready, ready_again) == (False, True)
        assert after.status_code == 200

    async def test_that_only_read_are_not_kept_either(
        self, postgres_server: PostgresServer, url: str
    ) -> None:
        database = Database(url)
        with demoted(postgres_server, url):
            async with database.engine.connect() as connection:
                found = await connection.scalar(select(func.count()).select_from(NOTES))
        async with database.engine.begin() as connection:
            await connection.execute(insert(NOTES).values(number=1))
        await database.engine.dispose()

        assert found == 0
        assert execute(url, "SELECT number FROM notes") == [(1,)]


class TestDatabaseWriter:
    @pytest.mark.parametrize("bulk", [False, True])
    async def test_opens_another_connection(
        self, postgres_server: PostgresServer, url: str, *, bulk: bool
    ) -> None:
        def write(connection: Connection, number: int) -> None:
            if bulk:
                ADD_MANY.run(connection, [(number,)])
            else:
                connection.execute(insert(NOTES).values(number=number))

        writer = DatabaseWriter(writing_engine(url))
        await writer.run(lambda c: write(c, 1))
        with demoted(postgres_server, url):
            with pytest.raises(OperationalError) as refused:
                await writer.run(lambda c: write(c, 2))
            await writer.run(lambda c: c.scalar(select(func.count()).select_from(NOTES)))  # and is kept
        await writer.run(lambda c: write(c, 3))
        await writer.close()

        assert refused.value.connection_invalidated
        assert execute(url, "SELECT number FROM notes ORDER BY number") == [(1,), (3,)]


class TestGroupCommits:
    async def test_end_the_connection_and_run_the_job_on_another(
        self, postgres_server: PostgresServer, url: str
    ) -> None:
        async with open_group_commits(url) as commits:
            await commits.run(add)
            with demoted(postgres_server, url):
                with pytest.raises(OperationalError) as refused:
                    await commits.run(add)
                ready = await commits.connected()
                await fill(commits)
            await commits.run(add)
            ready_again = await commits.connected()

        assert render_problem(refused.value).status == 503
        assert (ready, ready_again) == (False, True)
        assert execute(url, "SELECT number FROM notes ORDER BY number") == [(1,), (2,)]

    async def test_that_are_away_say_so(self, url: str) -> None:
        async with open_group_commits(url + "_gone") as commits:
            assert not await commits.connected()


class TestAnOwnersLock:
    def test_counts_for_nothing_where_no_writes_are_taken(
        self, postgres_server: PostgresServer, url: str
    ) -> None:
        lock = AdvisoryLock(url, 1)
        held = lock.take()
        with demoted(postgres_server, url), pytest.raises(OperationalError, match="takes no writes"):
            lock.take()
        again = lock.take()
        lock.release()

        assert (held, again) == (True, True)
