"""Databases: SQLite in one file or PostgreSQL, chosen by URL; the same tables and statements on both."""

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any

import structlog
from alembic import command
from alembic.config import Config
from fastapi import Depends, Request
from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from common.errors import PlatformError
from common.failpoints import failpoint
from common.tenancy import EVERY_TENANT, TenantSession, guard

BUSY_TIMEOUT_MS = 5000
CONNECT_TIMEOUT_S = 5
RETRY_S = 0.02
POOL_SIZE = 20
COMPILED_STATEMENTS = 512  # of each connection: those of `common.bulk` come in many sizes
MIGRATION_LOCK = 7_261_190_423  # any number; the same for every process that migrates
_log = structlog.get_logger()


class Database:
    """The engine and the sessions of one service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine: AsyncEngine = create_async_engine(_driver_url(url, asynchronous=True), **_pool(url))
        if _is_sqlite(url):
            event.listen(self.engine.sync_engine, "connect", _set_pragmas)
        guard(self.engine.sync_engine)
        self.sessions = async_sessionmaker(
            self.engine, expire_on_commit=False, sync_session_class=TenantSession
        )

    async def connected(self) -> bool:
        """Readiness: whether the database answers."""
        try:
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError) as error:
            _log.warning("database.not_connected", error=type(error).__name__)
            return False
        return True


@asynccontextmanager
async def open_database(url: str, *, migrations: Path) -> AsyncIterator[Database]:
    """Bring the schema at `url` up to date, then yield its database; the pool is closed at the end."""
    migrate(url, migrations=migrations)
    database = Database(url)
    try:
        yield database
    finally:
        await database.engine.dispose()


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    """Yield one session whose transaction commits when the endpoint returns and rolls back when it raises.

    An expected failure that says so (`keeps_changes`) is committed and then raised.
    """
    database: Database = request.state.database
    kept: PlatformError | None = None
    async with database.sessions.begin() as opened:
        try:
            yield opened
        except PlatformError as error:
            if not error.keeps_changes:
                raise
            kept = error
    if kept is not None:
        raise kept


# scope="function": the commit happens before the first byte of the reply leaves, so a failed one is no 2xx.
SessionDep = Annotated[AsyncSession, Depends(session, scope="function")]


def writing_engine(url: str) -> Engine:
    """Return a synchronous engine for a thread of its own (see `common.writer`)."""
    engine = create_engine(_driver_url(url, asynchronous=False), **_pool(url))
    if _is_sqlite(url):
        event.listen(engine, "connect", _set_pragmas)
    guard(engine)
    return engine


def insert_ignoring_repeats(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that leaves rows whose key exists as they are, for either engine."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def migrate(url: str, *, migrations: Path) -> None:
    """Apply every migration in the folder `migrations` that the database at `url` does not have yet."""
    if _is_sqlite(url):
        _make_file(url)
    engine = writing_engine(url)
    try:
        with engine.begin() as connection:
            connection.execution_options(**{EVERY_TENANT: "migrations change the rows of all"})
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # processes that start together take turns
            config = Config()
            config.set_main_option("script_location", str(migrations).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            failpoint("migrations.before_commit")
    finally:
        engine.dispose()


def run_migrations(metadata: Any) -> None:  # noqa: ANN401 - MetaData, or None while a service has no tables
    """Do what Alembic's env.py has to do; every service's env.py is this one call."""
    from alembic import context  # noqa: PLC0415 - exists only while Alembic runs an environment

    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


def _is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def _driver_url(url: str, *, asynchronous: bool) -> str:
    """Add the driver we use to `sqlite:///...` or `postgresql://...`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        driver = "sqlite+aiosqlite" if asynchronous else "sqlite"
    else:
        driver = "postgresql+psycopg"
    return parsed.set(drivername=driver).render_as_string(hide_password=False)


def _pool(url: str) -> dict[str, Any]:
    # Parameters stay out of error texts: they hold addresses and hashes, and error texts reach the log.
    if _is_sqlite(url):
        connect = {"timeout": BUSY_TIMEOUT_MS / 1000, "cached_statements": COMPILED_STATEMENTS}
        return {"hide_parameters": True, "connect_args": connect}
    return {
        "hide_parameters": True,
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": CONNECT_TIMEOUT_S,
        "pool_pre_ping": True,
        "connect_args": {"connect_timeout": CONNECT_TIMEOUT_S},
    }


def _set_pragmas(connection: Any, _record: Any) -> None:  # noqa: ANN401 - a DBAPI connection
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _make_file(url: str) -> None:
    """Make the file and its folder, and turn its write-ahead log on, which lasts.

    SQLite does not wait for other processes while it turns the log on, so those that start together try again.
    """
    database = make_url(url).database
    if not database or database == ":memory:":
        return
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)
        else:
            return
