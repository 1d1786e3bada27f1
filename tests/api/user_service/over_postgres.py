"""Looking into a PostgreSQL database that services work on, and making them wait for each other there."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import psycopg

from tests.postgres import seeing_all
from tests.waiting import eventually

Both = tuple[httpx.AsyncClient, httpx.AsyncClient]
FirstT = TypeVar("FirstT")
SecondT = TypeVar("SecondT")
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " ORDER BY pid"
)


def change_rows(url: str, statement: str) -> None:
    with psycopg.connect(seeing_all(url), autocommit=True) as connection:
        connection.execute(statement.encode())


def rows(url: str, query: str, *values: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(seeing_all(url), autocommit=True) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


@asynccontextmanager
async def holding(url: str, table: str, which: str) -> AsyncIterator[None]:
    """Hold rows of a table, as a transaction does that changes them."""
    async with await psycopg.AsyncConnection.connect(seeing_all(url)) as connection:
        held = await connection.execute(f"SELECT FROM {table} WHERE {which} FOR NO KEY UPDATE".encode())
        assert held.rowcount > 0
        yield
        await connection.rollback()


async def until_waiting(url: str, count: int) -> list[int]:
    """Wait until so many transactions wait for a lock, and return the ids of their processes."""

    async def waiting() -> list[int]:
        found = [pid for (pid,) in rows(url, WAITING)]
        return found if len(found) == count else []

    return await eventually(waiting)


async def queued(
    url: str,
    first: Coroutine[Any, Any, FirstT],
    second: Coroutine[Any, Any, SecondT],
    *,
    table: str,
    which: str,
) -> tuple[FirstT, SecondT]:
    """Let both run into rows that somebody holds, one after the other; return what comes of them afterwards."""
    async with holding(url, table, which):
        one = asyncio.create_task(first)
        await until_waiting(url, 1)
        other = asyncio.create_task(second)
        await until_waiting(url, 2)
    return await one, await other
