"""Commits for many at once on PostgreSQL: a pool of asyncpg's connections, and jobs of one transaction each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg
from prometheus_client import Counter
from sqlalchemy import Column
from sqlalchemy.exc import DBAPIError, OperationalError

from common.db_connections import TIMEOUTS, DatabaseUrl, limits
from common.db_failures import READ_ONLY, is_useless
from common.db_tls import asyncpg_dsn, server_settings
from common.errors import UnavailableError
from common.postgres.failures import DRIVER_ERRORS, DriverError, as_sqlalchemy_has_it, is_undone
from common.postgres.statements import Rows, Statement, transposed
from common.row_security import EVERY_TENANT_SETTING

MAX_CONNECTIONS = 20
CONNECTIONS = 4  # two lanes that commit, and what was told beside them
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
IDLE_S = 300.0
OF_ALL = {EVERY_TENANT_SETTING: "on"}  # one commit is for many institutions (see common.tenancy)
_NOT_FOR_ASYNCPG = (
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
)
REPEATED = Counter(
    "assay_postgres_jobs_repeated_total",
    "Transactions that were run once more: their connection was ended, or the server let another one go first.",
)
_READ_ONLY = Statement(READ_ONLY)
ResultT = TypeVar("ResultT")


class Transaction:
    """The running transaction of a job. It raises what SQLAlchemy would raise."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - a connection of asyncpg
        self._connection = connection

    async def fetch(self, statement: Statement, **values: object) -> list[Any]:
        """Run `statement` with the named `values` and return its rows, which are read by column name."""
        try:
            found: list[Any] = await self._connection.fetch(statement.text, *statement.arguments(values))
        except DRIVER_ERRORS as error:
            raise _failed(self._connection, error) from None
        return found

    async def fetch_for(
        self, statement: Statement, name: str, columns: Sequence[Column[Any]], rows: Rows
    ) -> list[Any]:
        """Run a statement over `unnested(name, columns)` with `rows`."""
        return await self.fetch(statement, **transposed(name, columns, rows))


Job = Callable[[Transaction], Awaitable[ResultT]]


class GroupCommits:
    """Runs jobs, each in one durable transaction on a connection of its own, on the event loop.

    A job that broke before its commit was asked for left nothing behind, and is run once more: its connection was
    ended, or the server chose it to give way. What became of a commit that broke is not known: it is not repeated.
    """

    def __init__(self, pool: Any) -> None:  # noqa: ANN401 - a pool of asyncpg
        self._pool = pool
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def run(self, job: Job[ResultT]) -> ResultT:
        """Return what `job` returns, once its transaction is durable; raises what it or the commit raised.

        A caller that goes away does not stop its job. After `close` this raises `UnavailableError`.
        """
        if self._closed:
            raise UnavailableError("This service is stopping.")
        task = asyncio.ensure_future(self._committed(job))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def connected(self) -> bool:
        """Readiness: whether its own connections, too, reach a server that takes writes."""
        try:
            rows = await self.run(lambda running: running.fetch(_READ_ONLY))
        except (DBAPIError, UnavailableError):
            return False
        writable: bool = rows[0]["read_only"] == "off"
        if not writable:
            await self._pool.expire_connections()
        return writable

    async def close(self) -> None:
        """Finish the jobs that were handed in; no more are taken."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)

    async def _committed(self, job: Job[ResultT]) -> ResultT:
        try:
            return await self._once(job)
        except _UndoneError:
            REPEATED.inc()
        try:
            return await self._once(job)
        except _UndoneError as undone:
            raise undone.error from None

    async def _once(self, job: Job[ResultT]) -> ResultT:
        try:
            connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT_S)
        except DRIVER_ERRORS as error:
            raise as_sqlalchemy_has_it(error, is_lost=True) from None
        try:
            result = await self._begun(connection, job)
            await self._commit(connection)
        except BaseException:
            await _roll_back(connection)
            raise
        finally:
            with suppress(*DRIVER_ERRORS):
                await self._pool.release(connection)
        return result

    async def _begun(self, connection: Any, job: Job[ResultT]) -> ResultT:  # noqa: ANN401
        """Run `job` up to its commit; raises `_UndoneError` when nothing of it is there and it may be run again."""
        try:
            await _ask(connection, "BEGIN")
            return await job(Transaction(connection))
        except DBAPIError as error:
            if is_useless(error.orig):  # the others of the pool reach the same server
                await self._pool.expire_connections()
            if is_undone(error):
                raise _UndoneError(error) from None
            raise

    async def _commit(self, connection: Any) -> None:  # noqa: ANN401
        # a server answers ROLLBACK, and no error, to the COMMIT of a transaction in which a statement failed
        if await _ask(connection, "COMMIT") != "COMMIT":
            raise OperationalError("COMMIT", None, DriverError(RuntimeError("it was rolled back")))


class _UndoneError(Exception):
    """Nothing of a job is in the database, and the next try may succeed."""

    def __init__(self, error: DBAPIError) -> None:
        super().__init__(str(error))
        self.error = error


@asynccontextmanager
async def open_group_commits(
    url: DatabaseUrl, *, connections: int = CONNECTIONS
) -> AsyncIterator[GroupCommits]:
    """Yield what commits for many at the database `url`, with at most `connections` of its own.

    It connects when it is first used: whether the database answers is readiness, not a reason not to start.
    """
    pool = asyncpg.create_pool(
        asyncpg_dsn(url),
        min_size=0,
        max_size=min(connections, MAX_CONNECTIONS),
        max_inactive_connection_lifetime=IDLE_S,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings=_server_settings(url),
        reset=_left_as_it_is,
    )
    async with pool:
        commits = GroupCommits(pool)
        try:
            yield commits
        finally:
            await commits.close()


def _server_settings(url: DatabaseUrl) -> dict[str, str]:
    bounds = {name: str(most) for name, most in limits(TIMEOUTS).items()}
    return bounds | server_settings(url) | OF_ALL  # what the address says counts, as with the other driver


async def _left_as_it_is(_connection: object) -> None:
    """Do nothing: a job changes no setting beyond its transaction, and what resets them costs a round trip."""


async def _ask(connection: Any, word: str) -> str:  # noqa: ANN401
    try:
        answer: str = await connection.execute(word)
    except DRIVER_ERRORS as error:
        raise _failed(connection, error) from None
    return answer


def _failed(connection: Any, error: BaseException) -> DBAPIError:  # noqa: ANN401
    """Return SQLAlchemy's error; a connection that is of no more use is ended, so that the pool opens another."""
    if is_useless(error):
        _end(connection)
    return as_sqlalchemy_has_it(error, is_lost=_is_lost(connection))


async def _roll_back(connection: Any) -> None:  # noqa: ANN401
    """Leave nothing open: a connection that cannot even do that is ended."""
    if _is_lost(connection):
        return
    try:
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK")
    except DRIVER_ERRORS:
        _end(connection)


def _end(connection: Any) -> None:  # noqa: ANN401
    with suppress(asyncpg.InterfaceError):  # it was lost meanwhile
        connection.terminate()


def _is_lost(connection: Any) -> bool:  # noqa: ANN401
    try:
        lost: bool = connection.is_closed()
    except asyncpg.InterfaceError:  # the pool took it away at once
        return True
    return lost
