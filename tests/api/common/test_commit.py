"""A reply leaves after its transaction is durable; one whose commit fails is no success."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import event, text

from common.db import Database, SessionDep
from common.errors import NotFoundError, PlatformError
from tests.api.common.conftest import CANARY, Tiny, assert_problem
from tests.waiting import PATIENCE_S


class KeptError(PlatformError):
    status_code = 409
    type = "kept"
    title = "Refused, and remembered"
    keeps_changes = True


def writing() -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.put("/notes/{number}")
    async def write(number: int, session: SessionDep) -> dict[str, int]:
        await session.execute(text("INSERT INTO notes VALUES (:number)"), {"number": number})
        return {"number": number}

    @router.put("/orphans/{number}")
    async def orphan(number: int, session: SessionDep) -> dict[str, int]:
        await session.execute(text("INSERT INTO orphans VALUES (:number)"), {"number": number})
        return {"number": number}

    @router.put("/fail/{how}/{number}")
    async def fail(how: str, number: int, session: SessionDep) -> None:
        await session.execute(text("INSERT INTO notes VALUES (:number)"), {"number": number})
        raise {"unexpected": RuntimeError("x"), "refused": NotFoundError(), "kept": KeptError()}[how]

    @router.put("/kept-orphans/{number}")
    async def kept_orphan(number: int, session: SessionDep) -> None:
        await session.execute(text("INSERT INTO orphans VALUES (:number)"), {"number": number})
        raise KeptError

    return router


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            PRAGMA journal_mode = WAL;
            CREATE TABLE notes (number INTEGER PRIMARY KEY);
            CREATE TABLE orphans (parent INTEGER REFERENCES notes (number) DEFERRABLE INITIALLY DEFERRED);
            """
        )
    return path


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    made = Database(f"sqlite:///{path}")
    yield made
    await made.engine.dispose()


@pytest.fixture
def tiny(database: Database) -> Tiny:
    return Tiny(state={"database": database}, routers=[writing()])


@pytest.fixture
async def client(tiny: Tiny) -> AsyncIterator[httpx.AsyncClient]:
    async with tiny.open() as opened:
        yield opened


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """A second connection, as another process has one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def saved(other: sqlite3.Connection) -> list[int]:
    return [number for (number,) in other.execute("SELECT number FROM notes ORDER BY number")]


class TestCommit:
    async def test_is_over_when_the_reply_arrives(
        self, client: httpx.AsyncClient, other: sqlite3.Connection
    ) -> None:
        for number in range(20):
            response = await client.put(f"/v1/notes/{number}")

            assert response.status_code == 200
            assert saved(other) == list(range(number + 1))

    async def test_is_waited_for_before_the_first_byte_of_the_reply(
        self, tiny: Tiny, database: Database, other: sqlite3.Connection
    ) -> None:
        moments: list[str] = []
        event.listen(
            database.engine.sync_engine, "commit", lambda _connection: moments.append("commit begins")
        )
        async with tiny.open() as client:
            app = client._transport.app  # type: ignore[attr-defined]  # the application that open_app wraps

            async def noting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has them
                async def note(message: Any) -> None:  # noqa: ANN401 - as ASGI has them
                    moments.append(f"{message['type']}, saved {saved(other)}")
                    await send(message)

                await app(scope, receive, note)

            transport = httpx.ASGITransport(app=noting)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as watched:
                await watched.put("/v1/notes/7")

        assert moments[:2] == ["commit begins", "http.response.start, saved [7]"]

    async def test_that_takes_long_holds_the_reply_back(
        self, client: httpx.AsyncClient, other: sqlite3.Connection
    ) -> None:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(client.put("/v1/notes/7"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        other.execute("ROLLBACK")

        async with asyncio.timeout(PATIENCE_S):
            response = await waiting

        assert not done
        assert response.status_code == 200
        assert saved(other) == [7]

    async def test_that_fails_is_no_success(
        self, client: httpx.AsyncClient, other: sqlite3.Connection
    ) -> None:
        response = await client.put("/v1/orphans/7")

        assert_problem(response, 500, "internal")
        assert other.execute("SELECT count(*) FROM orphans").fetchone() == (0,)

    async def test_that_finds_the_database_locked_is_an_outage(
        self, path: Path, other: sqlite3.Connection
    ) -> None:
        database = Database(f"sqlite:///{path}")
        event.listen(
            database.engine.sync_engine,
            "connect",
            lambda raw, _record: raw.cursor().execute("PRAGMA busy_timeout = 1"),
        )
        other.execute("BEGIN IMMEDIATE")
        async with Tiny(state={"database": database}, routers=[writing()]).open() as client:
            response = await client.put("/v1/notes/7")
            other.execute("ROLLBACK")
            again = await client.put("/v1/notes/7")
        await database.engine.dispose()

        assert_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"] == "1"
        assert again.status_code == 200

    async def test_failures_are_logged_without_what_was_written(
        self, client: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        await client.put("/v1/notes/424242")
        response = await client.put("/v1/notes/424242")

        assert_problem(response, 500, "internal")
        assert "424242" not in str(lines)
        assert CANARY not in str(lines)


class TestRollback:
    @pytest.mark.parametrize(("how", "status"), [("unexpected", 500), ("refused", 404)])
    async def test_undoes_what_a_failing_request_wrote(
        self, client: httpx.AsyncClient, other: sqlite3.Connection, how: str, status: int
    ) -> None:
        response = await client.put(f"/v1/fail/{how}/7")

        assert response.status_code == status
        assert saved(other) == []

    async def test_leaves_what_a_refusal_has_to_remember(
        self, client: httpx.AsyncClient, other: sqlite3.Connection
    ) -> None:
        response = await client.put("/v1/fail/kept/7")

        assert_problem(response, 409, "kept")
        assert saved(other) == [7]

    async def test_of_what_a_refusal_had_to_remember_is_not_passed_over(
        self, client: httpx.AsyncClient
    ) -> None:
        response = await client.put("/v1/kept-orphans/7")

        assert_problem(response, 500, "internal")

    async def test_gives_every_connection_back(self, client: httpx.AsyncClient, database: Database) -> None:
        for how in ("unexpected", "refused", "kept") * 5:
            await client.put(f"/v1/fail/{how}/7")

        assert database.engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


class TestConnected:
    async def test_is_true_while_the_database_answers(self, database: Database) -> None:
        assert await database.connected()

    async def test_is_false_when_it_is_not_there(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path / 'missing' / 'x.db'}")

        assert not await database.connected()
