"""How connections to databases are made: drivers, pools, and how long anything of it may take.

Nothing waits for a database without end: PostgreSQL ends a statement or a wait for a lock, and when PostgreSQL itself
stands still, the client gives the connection up.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from pydantic import SecretStr
from sqlalchemy import URL, Engine, event, make_url

DatabaseUrl = SecretStr | str
"""The address of a database; as a setting it is a secret, because it holds a password."""
BUSY_TIMEOUT_MS = 5000
CONNECT_TIMEOUT_S = 5
POOL_SIZE = 20
COMPILED_STATEMENTS = 512  # of each connection: those of `common.bulk` come in many sizes
WAIT_INTERVAL_S = 0.1
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long things may take on PostgreSQL, in milliseconds."""

    statement: int = 10_000  # the longest look-up a caller still waits for
    lock: int = BUSY_TIMEOUT_MS  # as long as on SQLite
    idle_in_transaction: int = (
        60_000  # a process that stands still holds no locks for ever; hashing takes less
    )
    answer: int = 12_000  # after `statement` the server should have answered; if not, it stands still
    unacknowledged: int = 10_000  # sent data that the network does not confirm: its other end is gone


TIMEOUTS = Timeouts()
UNBOUNDED = Timeouts(statement=0, lock=0, idle_in_transaction=0)


class _Bounded:
    """A connection that is given up when the server says nothing for too long."""

    answer_s = TIMEOUTS.answer / 1000
    pgconn: Any

    def _give_up(self) -> psycopg.OperationalError:
        self.pgconn.finish()  # closed without a word: nobody would read it
        return psycopg.OperationalError(f"PostgreSQL did not answer within {self.answer_s:g} s")


class BoundedConnection(_Bounded, psycopg.Connection[Any]):
    """One for threads."""

    def wait(
        self, gen: PQGen[ResultT], interval: float = WAIT_INTERVAL_S, timeout: float | None = None
    ) -> ResultT:
        """Return what the server answers; raises `psycopg.OperationalError` when it does not answer in time."""
        try:
            return super().wait(gen, interval, self.answer_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:  # it has no public name
            raise self._give_up() from error


class BoundedAsyncConnection(_Bounded, psycopg.AsyncConnection[Any]):
    """One for the event loop."""

    async def wait(
        self,
        gen: PQGen[ResultT],
        interval: float = WAIT_INTERVAL_S,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's own
    ) -> ResultT:
        """Return what the server answers; raises `psycopg.OperationalError` when it does not answer in time."""
        try:
            return await super().wait(gen, interval, self.answer_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            raise self._give_up() from error


def plain(url: DatabaseUrl) -> str:
    """Return the text of an address."""
    return url.get_secret_value() if isinstance(url, SecretStr) else url


def parsed(url: DatabaseUrl) -> URL:
    """Return the parts of an address; shown as text it hides its password."""
    return make_url(plain(url))


def is_sqlite(url: DatabaseUrl) -> bool:
    """Whether a database is a file of SQLite's."""
    return parsed(url).get_backend_name() == "sqlite"


def driver_url(url: DatabaseUrl, *, asynchronous: bool) -> URL:
    """Add the driver we use to `sqlite:///...` or `postgresql://...`."""
    if is_sqlite(url):
        return parsed(url).set(drivername="sqlite+aiosqlite" if asynchronous else "sqlite")
    return parsed(url).set(drivername="postgresql+psycopg")


def pool_options(
    url: DatabaseUrl, *, timeouts: Timeouts | None = TIMEOUTS, read_only: bool = False
) -> dict[str, Any]:
    """Return how an engine connects; with `timeouts` None statements take as long as they take.

    That is said to the server, too: its role or database may have timeouts of their own.
    """
    # Parameters stay out of error texts: they hold addresses and hashes, and error texts reach the log.
    if is_sqlite(url):
        connect = {"timeout": BUSY_TIMEOUT_MS / 1000, "cached_statements": COMPILED_STATEMENTS}
        return {"hide_parameters": True, "connect_args": connect}
    settings: dict[str, int | str] = {**limits(timeouts or UNBOUNDED)}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    stated = " ".join(f"-c {name}={value}" for name, value in settings.items())
    said = str(parsed(url).query.get("options", ""))
    connecting: dict[str, Any] = {
        "options": f"{stated} {said}" if timeouts else f"{said} {stated}",  # of two the last counts
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": TIMEOUTS.unacknowledged,
    }
    return {
        "hide_parameters": True,
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": CONNECT_TIMEOUT_S,
        "pool_pre_ping": True,
        "connect_args": connecting,
    }


def bound(engine: Engine, timeouts: Timeouts, *, asynchronous: bool) -> None:
    """Let the connections of `engine` be given up when PostgreSQL stands still."""
    if engine.dialect.name != "postgresql":
        return
    kind = BoundedAsyncConnection if asynchronous else BoundedConnection
    chosen: Any = type(kind.__name__, (kind,), {"answer_s": timeouts.answer / 1000})

    def connect(dialect: Any, _record: object, arguments: Any, options: dict[str, Any]) -> Any:  # noqa: ANN401
        if asynchronous:
            return dialect.connect(*arguments, **options, async_creator_fn=chosen.connect)
        return chosen.connect(*arguments, **options)

    event.listen(engine, "do_connect", connect)


def set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
    """Make a connection to SQLite durable, patient and strict about foreign keys."""
    cursor: sqlite3.Cursor = connection.cursor()
    # how long it waits for others is said when it connects
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"):
        cursor.execute(statement)
    cursor.close()


def limits(timeouts: Timeouts) -> dict[str, int]:
    """Return the settings of the server that bound what a connection does."""
    return {
        "statement_timeout": timeouts.statement,
        "lock_timeout": timeouts.lock,
        "idle_in_transaction_session_timeout": timeouts.idle_in_transaction,
    }
