"""Databases in which two institutions have the same things, and checks that one never reaches the other's."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.institutions import Institution, InstitutionMode
from common.db import Database, migrate, writing_engine
from common.row_security import ENTERING
from common.tenancy import TENANT

A = Institution(institution_id="ins_a", mode=InstitutionMode.SANDBOX, base_currency="EUR")
B = Institution(institution_id="ins_b", mode=InstitutionMode.SANDBOX, base_currency="EUR")
BOTH = (A, B)
OnConnection = Callable[[Connection], None]
InSession = Callable[[AsyncSession], Awaitable[None]]
Run = Callable[[str], None]


@dataclass(frozen=True)
class World:
    """A service's migrations, what both institutions have in its database, and the checks of it."""

    migrations: Path
    fill: Run
    checks: Mapping[str, Run]

    def build(self, path: Path) -> None:
        """Make the database file at `path`."""
        migrate(f"sqlite:///{path}", migrations=self.migrations)
        self.fill(f"sqlite:///{path}")


def on_connection(job: OnConnection) -> Run:
    """Return `job` as something that runs in one transaction on the engine that services write with."""

    def run(url: str) -> None:
        engine = writing_engine(url)
        try:
            with engine.begin() as connection:
                job(connection)
        finally:
            engine.dispose()

    return run


def in_session(job: InSession) -> Run:
    """Return `job` as something that runs in one transaction of the sessions that requests use."""

    async def run(url: str) -> None:
        database = Database(url)
        try:
            async with database.sessions.begin() as session:
                await job(session)
        finally:
            await database.engine.dispose()

    return lambda url: asyncio.run(run(url))


@contextmanager
def all_of_a_tenant(connection: Connection) -> Iterator[None]:
    """Fail unless each statement inside says whose it is: where nobody could see a difference, that is all there is."""
    unnamed: list[str] = []

    def note(*about: Any) -> None:  # noqa: ANN401 - what SQLAlchemy calls a listener with
        _connection, _cursor, text, _parameters, context, _many = about
        if context.compiled.statement is ENTERING:
            return  # says for whom the transaction runs
        if not context.isinsert and TENANT not in context.compiled.binds:
            unnamed.append(text)

    event.listen(connection, "before_cursor_execute", note)
    yield
    event.remove(connection, "before_cursor_execute", note)
    assert unnamed == []


@asynccontextmanager
async def each_of_a_tenant(session: AsyncSession) -> AsyncIterator[None]:
    """Do the same for the statements of a session."""
    connection = (await session.connection()).sync_connection
    assert connection is not None
    with all_of_a_tenant(connection):
        yield


@contextmanager
def copied(built: Path, path: Path) -> Iterator[str]:
    """Yield the URL of a copy of `built`."""
    shutil.copyfile(built, path)
    try:
        yield f"sqlite:///{path}"
    finally:
        for each in path.parent.glob(path.name + "*"):
            each.unlink()


def failing(world: World, built: Path, path: Path) -> str | None:
    """Return the first check that fails, each on its own copy; None when all of them pass."""
    for name, check in world.checks.items():
        with copied(built, path) as url:
            try:
                check(url)
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - with the condition there, none fails
                return name
    return None
