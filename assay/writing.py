"""Fills an empty database with a copy: whole, or not at all.

On PostgreSQL one transaction holds everything until it is committed, and keeps others out meanwhile. On SQLite a file
beside the one that is wanted is filled, and renamed. What is broken off leaves tables without rows, or nothing.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol

import psycopg
from sqlalchemy import Connection, Engine, delete, insert, make_url
from sqlalchemy.exc import SQLAlchemyError

from assay import postgres
from assay.databases import ServiceDatabase
from assay.digests import RowFacts, TableDigest
from assay.emptiness import refuse_filled
from assay.errors import (
    CopyDiffersError,
    LeftOverError,
    NotEmptyError,
    OperationError,
    OtherSchemaError,
)
from assay.reading import (
    WHOLE,
    Seen,
    Snapshot,
    differences,
    is_sqlite,
    nobody,
    reason,
    revision_of,
    see_every_tenant,
    shown,
)
from assay.shapes import Kinds, table_of, table_to_fill
from assay.values import RowCodec
from common.db import migrate, writing_engine
from common.tenancy import of_every_tenant

ROWS_AN_INSERT = 500
PRIVATE = 0o600
UNFINISHED = ".unfinished"
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a file, and takes for its newest changes


class Filling(Protocol):
    """How rows get into one engine, and how the whole becomes visible."""

    connection: Connection

    def clear(self, name: str) -> None:
        """Take away what a migration put into a table."""

    def insert(self, name: str, codec: RowCodec, lines: Iterable[bytes]) -> None:
        """Put rows into a table."""

    def commit(self) -> None:
        """Make everything visible at once, on the disk."""

    def close(self) -> None:
        """Let go; what was not committed is gone."""


class Staged:
    """A copy on its way into one database."""

    def __init__(self, filling: Filling, url: str) -> None:
        self._filling = filling
        self._url = url
        self._kinds: dict[str, Kinds] = {}
        self._expected: dict[str, RowFacts] = {}

    @property
    def connection(self) -> Connection:
        """Return the connection whose transaction holds the copy."""
        return self._filling.connection

    def load(self, name: str, kinds: Kinds, lines: Iterable[bytes]) -> RowFacts:
        """Fill a table with `lines`; returns what came in."""
        digest = TableDigest()
        with _plain_errors(self._url):
            self._filling.clear(name)
            self._filling.insert(name, RowCodec(name, kinds), _counted(lines, digest))
        self._kinds[name], self._expected[name] = kinds, digest.facts()
        return digest.facts()

    def verify(self, *, seen: Seen = nobody) -> None:
        """Read everything back and compare; raises `CopyDiffersError`."""
        tables = [table_of(name, kinds) for name, kinds in self._kinds.items()]
        with _plain_errors(self._url):
            found = Snapshot(tables, self.connection).facts(seen=seen)
        different = differences(self._expected, found)
        if different:
            raise CopyDiffersError(f"{shown(self._url)} does not hold what was copied.", details=different)

    def commit(self) -> None:
        """Keep the copy."""
        with _plain_errors(self._url):
            self._filling.commit()


@contextmanager
def staged(database: ServiceDatabase, url: str, *, revision: str) -> Iterator[Staged]:
    """Yield the empty database at `url`, at `revision`; unless it is committed, nothing of it stays.

    Raises `NotEmptyError`, `OtherSchemaError` and `OperationError`.
    """
    with _plain_errors(url):
        filling: Filling = (
            _SqliteFilling(database, url, revision)
            if is_sqlite(url)
            else _PostgresFilling(database, url, revision)
        )
    try:
        yield Staged(filling, url)
    finally:
        filling.close()


class _SqliteFilling:
    def __init__(self, database: ServiceDatabase, url: str, revision: str) -> None:
        self._path = Path(make_url(url).database or "").absolute()
        _refuse_present(self._path)
        self._unfinished = self._path.with_name(f".{self._path.name}{UNFINISHED}")
        self._remove()
        beside = f"sqlite:///{self._unfinished}"
        migrate(beside, migrations=database.migrations, revision=revision)
        self._engine: Engine = writing_engine(beside)
        self.connection = self._engine.connect()
        # rows come table by table; what they name is checked once, at the end
        self.connection.exec_driver_sql("PRAGMA foreign_keys = OFF")

    def clear(self, name: str) -> None:
        self.connection.execute(of_every_tenant(delete(table_of(name, {})), WHOLE))

    def insert(self, name: str, codec: RowCodec, lines: Iterable[bytes]) -> None:
        table = table_to_fill(name, codec.kinds)
        rows = (dict(zip(codec.kinds, codec.row(line), strict=True)) for line in lines)
        while some := list(islice(rows, ROWS_AN_INSERT)):
            self.connection.execute(of_every_tenant(insert(table), WHOLE), some)

    def commit(self) -> None:
        broken = self.connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise CopyDiffersError(f"A row of {broken[0]} names a row of {broken[2]} that is not there.")
        self.connection.commit()
        self.connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()
        self._engine.dispose()
        self._unfinished.chmod(PRIVATE)
        _refuse_present(self._path)
        self._unfinished.rename(self._path)
        _fsync_folder(self._path.parent)

    def close(self) -> None:
        self.connection.close()
        self._engine.dispose()
        self._remove()

    def _remove(self) -> None:
        for suffix in ("", *BESIDE):
            Path(f"{self._unfinished}{suffix}").unlink(missing_ok=True)


class _PostgresFilling:
    def __init__(self, database: ServiceDatabase, url: str, revision: str) -> None:
        self._engine = writing_engine(url, timeouts=None)
        self.connection = self._engine.connect()
        try:
            self._prepare(database, url, revision)
        except BaseException:
            self.close()
            raise

    def clear(self, name: str) -> None:
        self.connection.execute(of_every_tenant(delete(table_of(name, {})), WHOLE))

    def insert(self, name: str, codec: RowCodec, lines: Iterable[bytes]) -> None:
        with postgres.written_by_its_owner(self.connection, name):
            postgres.copy_rows(self.connection, name, list(codec.kinds), map(codec.row, lines))
        numbers = [column for column, kind in codec.kinds.items() if kind == "int"]
        postgres.advance_sequences(self.connection, name, numbers)

    def commit(self) -> None:
        self.connection.commit()

    def close(self) -> None:
        self.connection.close()
        self._engine.dispose()

    def _prepare(self, database: ServiceDatabase, url: str, revision: str) -> None:
        found = revision_of(self.connection)
        self.connection.rollback()
        if found not in {None, revision}:
            raise OtherSchemaError(f"{shown(url)} has revision {found}, and the copy has {revision}.")
        migrate(url, migrations=database.migrations, revision=revision)
        see_every_tenant(self.connection)
        postgres.lock_out_others(self.connection)
        refuse_filled(database, self.connection, url, revision=revision)


def _refuse_present(path: Path) -> None:
    """Raise `NotEmptyError` when there is a database at `path`, or what an older one left: SQLite would mix the two."""
    if path.exists():
        raise NotEmptyError(f"{path} is there already; it was left as it is.")
    left = [beside for suffix in BESIDE if (beside := Path(f"{path}{suffix}")).exists()]
    if left:
        raise LeftOverError(
            f"{left[0]} is there already, of a database that is gone; it was left as it is.",
            details=[f"Move away first: {', '.join(map(str, left))}"],
        )


def _counted(lines: Iterable[bytes], digest: TableDigest) -> Iterator[bytes]:
    for line in lines:
        digest.add(line)
        yield line


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _plain_errors(url: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise OperationError(f"{shown(url)} cannot be filled: {reason(error)}") from error
    except psycopg.Error as error:
        said = str(error).partition("\n")[0]
        raise OperationError(f"{shown(url)} cannot be filled: {said}") from error
