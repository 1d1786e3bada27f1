"""What common.postgres promises about commits, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, ProgrammingError

from common.db import writing_engine
from common.errors import UnavailableError, render_problem
from common.postgres.commits import REPEATED, GroupCommits, Transaction, open_group_commits
from common.postgres.statements import Statement, unnested
from tests.integration.common.test_postgres import end_all_others, execute, waiting_locks
from tests.servers import free_port
from tests.waiting import PATIENCE_S

METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("name", String(10), primary_key=True),
    Column("weight", Integer),
    Column("content", LargeBinary),
)
COLUMNS = tuple(THINGS.c)
ROWS = unnested("new", COLUMNS)
ADDING = insert(THINGS).from_select([each.name for each in COLUMNS], select(*ROWS.c))
ADD = Statement(ADDING.returning(THINGS.c.name))
ADD_NEW = Statement(ADDING.on_conflict_do_nothing().returning(THINGS.c.name))
ANSWER = Statement(select(literal_column("7").label("answer")))
WEIGH = Statement(
    update(THINGS).where(THINGS.c.name == bindparam("wanted")).values(weight=THINGS.c.weight + 1)
)
END_ME = Statement(select(func.pg_terminate_backend(func.pg_backend_pid())))


WAITING_COMMIT = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait()
"""
"""Makes the COMMIT of whoever adds a thing wait while somebody else holds the lock 1."""


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = writing_engine(postgres_url)
    METADATA.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
async def commits(engine: Engine, postgres_url: str) -> AsyncIterator[GroupCommits]:
    async with open_group_commits(postgres_url) as opened:
        yield opened


async def add(running: Transaction, *names: str, statement: Statement = ADD) -> list[str]:
    rows = [(name, len(name), name.encode()) for name in names]
    return [row["name"] for row in await running.fetch_for(statement, "new", COLUMNS, rows)]


def end_waiting(url: str) -> None:
    """Let the server end the connection that waits for a lock."""
    execute(url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")


async def _weigh(running: Transaction, *in_order: str) -> None:
    """Add to the weights, waiting after the first until the other one has its first."""
    for name in in_order:
        await running.fetch(WEIGH, wanted=name)
        await asyncio.sleep(0.2)


def names(url: str) -> list[object]:
    return [name for (name,) in execute(url, "SELECT name FROM things ORDER BY name")]


class TestStatements:
    @pytest.mark.parametrize("count", [0, 1, 3, 1000])
    async def test_take_any_number_of_rows_in_one_text(
        self, commits: GroupCommits, postgres_url: str, count: int
    ) -> None:
        wanted = [f"t{number:04}" for number in range(count)]

        added = await commits.run(lambda running: add(running, *wanted))

        assert added == names(postgres_url) == wanted

    async def test_leave_what_is_there_and_say_what_was_new(
        self, commits: GroupCommits, postgres_url: str
    ) -> None:
        await commits.run(lambda running: add(running, "a"))

        added = await commits.run(lambda running: add(running, "a", "b", statement=ADD_NEW))

        assert added == ["b"]
        assert names(postgres_url) == ["a", "b"]

    async def test_run_where_all_institutions_are_seen(self, commits: GroupCommits) -> None:
        seen = Statement(select(func.current_setting("assay.every_tenant").label("seen")))

        for _ in range(2):  # also when the connection was used before
            rows = await commits.run(lambda running: running.fetch(seen))
            assert rows[0]["seen"] == "on"

    async def test_take_an_address_as_the_other_driver_has_it(
        self, engine: Engine, postgres_url: str
    ) -> None:
        url = (
            postgres_url.replace("postgresql://", "postgresql+psycopg://") + "?connect_timeout=3&keepalives=1"
        )

        async with open_group_commits(url) as commits:
            rows = await commits.run(lambda running: running.fetch(ANSWER))

        assert rows[0]["answer"] == 7


class TestErrors:
    async def test_are_those_of_sqlalchemy_and_say_no_value(self, commits: GroupCommits) -> None:
        await commits.run(lambda running: add(running, "canary"))

        with pytest.raises(IntegrityError) as repeated:
            await commits.run(lambda running: add(running, "canary"))
        with pytest.raises(DataError):
            await commits.run(lambda running: add(running, "longer than ten"))
        with pytest.raises(ProgrammingError):
            await commits.run(lambda running: running.fetch(Statement(select(literal_column("nothing")))))

        assert "canary" not in repr(repeated.value) + str(repeated.value.__cause__)

    async def test_of_one_job_leave_nothing_of_it_and_harm_no_other(
        self, commits: GroupCommits, postgres_url: str
    ) -> None:
        async def fail(running: Transaction) -> None:
            await add(running, "a")
            raise ValueError("on second thoughts")

        with pytest.raises(ValueError, match="on second thoughts"):
            await commits.run(fail)
        await commits.run(lambda running: add(running, "b"))

        assert names(postgres_url) == ["b"]

    async def test_that_a_job_swallows_do_not_become_a_commit(
        self, commits: GroupCommits, postgres_url: str
    ) -> None:
        async def swallow(running: Transaction) -> None:
            await add(running, "a")
            with pytest.raises(IntegrityError):
                await add(running, "a")

        with pytest.raises(OperationalError, match="rolled back"):
            await commits.run(swallow)

        assert names(postgres_url) == []


class TestOutage:
    async def test_a_server_that_is_away_is_an_outage(self) -> None:
        async with open_group_commits(f"postgresql://assay@127.0.0.1:{free_port()}/none") as commits:
            with pytest.raises(OperationalError) as raised:
                await commits.run(lambda running: running.fetch(ANSWER))

        assert raised.value.connection_invalidated
        assert render_problem(raised.value).status == 503

    async def test_a_database_that_is_not_there_is_an_outage(self, postgres_url: str) -> None:
        async with open_group_commits(postgres_url + "_gone") as commits:
            with pytest.raises(OperationalError):
                await commits.run(lambda running: running.fetch(ANSWER))

    async def test_a_job_that_finds_its_connection_ended_is_run_on_a_new_one(
        self, commits: GroupCommits, postgres_url: str
    ) -> None:
        await commits.run(lambda running: add(running, "a"))
        end_all_others(postgres_url)

        await commits.run(lambda running: add(running, "b"))

        assert names(postgres_url) == ["a", "b"]

    async def test_a_job_whose_connection_breaks_is_run_once_more_and_no_third_time(
        self, commits: GroupCommits, postgres_url: str
    ) -> None:
        tries: list[int] = []

        async def broken(running: Transaction) -> None:
            tries.append(1)
            await add(running, "a")
            await running.fetch(END_ME)

        before = REPEATED._value.get()
        with pytest.raises(OperationalError):
            await commits.run(broken)

        assert len(tries) == 2
        assert REPEATED._value.get() == before + 1
        assert names(postgres_url) == []

    async def test_a_commit_that_breaks_is_not_repeated(self, engine: Engine, postgres_url: str) -> None:
        tries: list[int] = []

        async def once(running: Transaction) -> None:
            tries.append(1)
            await add(running, "a")

        execute(postgres_url, WAITING_COMMIT)
        async with open_group_commits(postgres_url) as commits:
            with psycopg.connect(postgres_url) as lock:
                lock.execute("SELECT pg_advisory_lock(1)")
                running = asyncio.ensure_future(commits.run(once))
                await waiting_locks(postgres_url, 1)
                end_waiting(postgres_url)
                with pytest.raises(OperationalError):
                    await asyncio.wait_for(running, PATIENCE_S)

        assert len(tries) == 1

    async def test_the_one_that_gives_way_in_a_deadlock_is_run_again(
        self, commits: GroupCommits, postgres_url: str
    ) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await commits.run(lambda running: add(running, "a", "b"))
            await asyncio.gather(
                commits.run(lambda running: _weigh(running, "a", "b")),
                commits.run(lambda running: _weigh(running, "b", "a")),
            )

        assert execute(postgres_url, "SELECT weight FROM things") == [(3,), (3,)]


class TestClose:
    async def test_finishes_what_was_handed_in_and_takes_no_more(
        self, engine: Engine, postgres_url: str
    ) -> None:
        async with open_group_commits(postgres_url) as commits:
            running = asyncio.ensure_future(commits.run(lambda running: add(running, "a")))
            await asyncio.sleep(0)

        with pytest.raises(UnavailableError):
            await commits.run(lambda running: add(running, "b"))

        assert await running == names(postgres_url) == ["a"]

    async def test_a_caller_that_goes_away_does_not_stop_its_job(
        self, commits: GroupCommits, postgres_url: str
    ) -> None:
        go_on = asyncio.Event()

        async def slow(running: Transaction) -> None:
            await go_on.wait()
            await add(running, "a")

        caller = asyncio.ensure_future(commits.run(slow))
        await asyncio.sleep(0)
        caller.cancel()
        go_on.set()
        await asyncio.wait({caller})
        await commits.close()

        assert names(postgres_url) == ["a"]
