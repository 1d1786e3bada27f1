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
from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from common.db_connections import (
    BUSY_TIMEOUT_MS,
    TIMEOUTS,
    DatabaseUrl,
    Timeouts,
    bound,
    driver_url,
    is_sqlite,
    parsed,
    pool_options,
    set_pragmas,
)
from common.db_failures import takes_writes, throw_away_useless
from common.errors import PlatformError, StartupError
from common.failpoints import failpoint
from common.row_security import follow, stands_above_policies
from common.tenancy import EVERY_TENANT, TenantSession, guard

RETRY_S = 0.02
MIGRATION_LOCK = 7_261_190_423  # any number; the same for every process that migrates
_log = structlog.get_logger()


class RoleTooPowerfulError(StartupError):
    """The role in DATABASE_URL is above the policies that keep institutions apart."""

    def __init__(self) -> None:
        super().__init__(
            "The role in DATABASE_URL is a superuser or has BYPASSRLS: PostgreSQL would not keep institutions apart for "
            "it. Make an ordinary role that owns the database (CREATE ROLE assay LOGIN PASSWORD '...'; ALTER DATABASE "
            "... OWNER TO assay) and name that one in DATABASE_URL; docs/troubleshooting.md says how to hand tables over."
        )


class Database:
    """The engine and the sessions of one service."""

    def __init__(self, url: DatabaseUrl, *, timeouts: Timeouts = TIMEOUTS) -> None:
        self.engine: AsyncEngine = create_async_engine(
            driver_url(url, asynchronous=True), **pool_options(url, timeouts=timeouts)
        )
        _prepare(self.engine.sync_engine)
        throw_away_useless(self.engine.sync_engine)
        bound(self.engine.sync_engine, timeouts, asynchronous=True)
        self.sessions = async_sessionmaker(
            self.engine, expire_on_commit=False, sync_session_class=TenantSession
        )

    async def connected(self) -> bool:
        """Readiness: whether the database answers, and takes writes."""
        try:
            async with self.engine.connect() as connection:
                writable = await connection.run_sync(takes_writes)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("database.not_connected", error=type(error).__name__)
            return False
        if not writable:
            _log.warning("database.read_only")
        return writable


@asynccontextmanager
async def open_database(
    url: DatabaseUrl, *, migrations: Path, production: bool = False
) -> AsyncIterator[Database]:
    """Bring the schema at `url` up to date, then yield its database; the pool is closed at the end.

    Raises `RoleTooPowerfulError` in production when no policy would hold for its role.
    """
    _check_role(url, production=production)
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


def writing_engine(
    url: DatabaseUrl, *, timeouts: Timeouts | None = TIMEOUTS, read_only: bool = False
) -> Engine:
    """Return a synchronous engine for a thread of its own (see `common.writer`).

    With `timeouts` None nothing ends what takes long; with `read_only` PostgreSQL refuses every change.
    """
    engine = create_engine(
        driver_url(url, asynchronous=False), **pool_options(url, timeouts=timeouts, read_only=read_only)
    )
    _prepare(engine)
    if not read_only:
        throw_away_useless(engine)
    if timeouts is not None:
        bound(engine, timeouts, asynchronous=False)
    return engine


def insert_ignoring_repeats(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that leaves rows whose key exists as they are, for either engine."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def migrate(url: DatabaseUrl, *, migrations: Path, revision: str = "head") -> None:
    """Apply every migration in the folder `migrations`, up to `revision`, that the database at `url` does not have yet."""
    if is_sqlite(url):
        _make_file(url)
    engine = writing_engine(url, timeouts=None)  # changing a large table takes what it takes
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
            command.upgrade(config, revision)
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


def _prepare(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", set_pragmas)
    guard(engine)
    follow(engine)


def _check_role(url: DatabaseUrl, *, production: bool) -> None:
    """Refuse a role that policies do not hold for, or warn of it where nothing is at stake."""
    if is_sqlite(url):
        return
    engine = writing_engine(url)
    try:
        with engine.connect() as connection:
            too_powerful = stands_above_policies(connection)
    finally:
        engine.dispose()
    if too_powerful and production:
        raise RoleTooPowerfulError
    if too_powerful:
        _log.warning("database.role_above_policies", role=parsed(url).username)


def _make_file(url: DatabaseUrl) -> None:
    """Make the file and its folder, and turn its write-ahead log on, which lasts.

    SQLite does not wait for other processes while it turns the log on, so those that start together try again.
    """
    database = parsed(url).database
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
