"""Reads a service's database as it is at one moment, on either engine; nothing in it is changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, Table, create_engine, func, inspect, make_url, select, table, text
from sqlalchemy.exc import SQLAlchemyError

from assay.databases import ServiceDatabase
from assay.digests import RowFacts, TableDigest
from assay.errors import OperationError, OtherSchemaError
from assay.values import RowCodec, kind_of, to_read
from common.db import writing_engine
from common.row_security import EVERY_TENANT_SETTING
from common.tenancy import of_every_tenant

ROWS_A_FETCH = 1000
BUSY_S = 20
WHOLE = "a copy is of the whole database"
Seen = Callable[[int], None]


def nobody(_rows: int) -> None:
    """Show nothing."""


def is_sqlite(url: str) -> bool:
    """Tell which engine a URL is of."""
    return make_url(url).get_backend_name() == "sqlite"


def shown(url: str) -> str:
    """Return a URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def codec_of(of: Table) -> RowCodec:
    """Return what writes and reads the rows of a table."""
    return RowCodec(of.name, {column.name: kind_of(column) for column in of.columns})


@dataclass(frozen=True)
class Snapshot:
    """Tables as they were when this was opened."""

    tables: Sequence[Table]
    connection: Connection

    def lines(self, of: Table) -> Iterator[bytes]:
        """Yield every row of a table, a few at a time in memory."""
        codec = codec_of(of)
        query = of_every_tenant(select(*map(to_read, of.columns)), WHOLE)
        with self.connection.execute(query, execution_options={"stream_results": True}) as rows:
            for some in rows.partitions(ROWS_A_FETCH):
                for row in some:
                    yield codec.line(row)

    def facts(self, *, seen: Seen = nobody) -> dict[str, RowFacts]:
        """Read everything, and return what the tables hold by their name."""
        return {each.name: self._facts(each, seen) for each in self.tables}

    def _facts(self, of: Table, seen: Seen) -> RowFacts:
        digest = TableDigest()
        for line in self.lines(of):
            digest.add(line)
            seen(1)
        return digest.facts()


@contextmanager
def snapshot_of(database: ServiceDatabase, url: str) -> Iterator[Snapshot]:
    """Yield `database` at `url` as it is now; raises `OtherSchemaError` and `OperationError`."""
    engine = _reading_engine(url)
    try:
        with engine.connect() as connection:
            _begin(connection)
            refuse_other_schema(database, connection, url)
            yield Snapshot(database.tables, connection)
    except SQLAlchemyError as error:
        raise OperationError(f"{shown(url)} cannot be read: {reason(error)}") from error
    finally:
        engine.dispose()


def table_names(url: str) -> set[str]:
    """Return the names of all tables at `url`."""
    engine = _reading_engine(url)
    try:
        with engine.connect() as connection:
            return set(inspect(connection).get_table_names())
    except SQLAlchemyError as error:
        raise OperationError(f"{shown(url)} cannot be read: {reason(error)}") from error
    finally:
        engine.dispose()


@contextmanager
def changes_seen(url: str) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether somebody committed anything since; only SQLite can say so."""
    if not is_sqlite(url):
        yield lambda: False
        return
    engine = _reading_engine(url)
    try:
        with engine.connect() as connection:
            before = _data_version(connection)
            yield lambda: _data_version(connection) != before
    finally:
        engine.dispose()


def _data_version(connection: Connection) -> int:
    connection.execute(
        select(func.count()).select_from(table("sqlite_master"))
    )  # a read: only it looks at the file
    found = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
    connection.rollback()
    return int(found)


def reason(error: SQLAlchemyError) -> str:
    """Return what the database said, in one line, without the statement and its values."""
    said = getattr(error, "orig", None)
    return str(said if said is not None else type(error).__name__).strip().partition("\n")[0]


def see_every_tenant(connection: Connection) -> None:
    """Ask row-level security for the rows of all institutions, until the connection is closed."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.set_config(EVERY_TENANT_SETTING, "on", False)))


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the schema, or None where no migration ever ran."""
    return MigrationContext.configure(connection).get_current_revision()


def refuse_other_schema(database: ServiceDatabase, connection: Connection, url: str) -> None:
    """Raise `OtherSchemaError` unless the schema is the one that the tables of this program describe."""
    found = revision_of(connection)
    if found is None:
        raise OtherSchemaError(f"There is no database of {database.service} at {shown(url)}.")
    if found != database.revision:
        raise OtherSchemaError(
            f"{shown(url)} has revision {found}; this version of Assay works with {database.revision}.",
            details=[f"Use the version that wrote it, or start {database.service} of this version once."],
        )


def differences(expected: Mapping[str, RowFacts], found: Mapping[str, RowFacts]) -> Sequence[str]:
    """Name the tables that are not the same."""
    return [
        f"{name}: {facts.rows} rows expected, {found[name].rows} found"
        + ("" if facts.rows != found[name].rows else ", with another content")
        for name, facts in expected.items()
        if found[name] != facts
    ]


def _reading_engine(url: str) -> Engine:
    if not is_sqlite(url):
        return writing_engine(url, timeouts=None).execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
    file = Path(make_url(url).database or "").absolute()
    if not file.is_file():
        raise OperationError(f"There is no file {file}.")
    return create_engine(
        f"sqlite:///file:{quote(str(file))}?mode=ro&uri=true",
        hide_parameters=True,
        connect_args={"timeout": BUSY_S},
    )


def _begin(connection: Connection) -> None:
    """Take the one moment: on SQLite it is that of the first read inside a transaction."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
    see_every_tenant(connection)
    connection.execute(text("SELECT 1"))
