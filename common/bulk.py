"""Statements over many rows at once, compiled from the tables once for each number of rows.

SQLAlchemy spends more time on making a statement for a batch than SQLite spends on running it, and the driver lets
other threads run between any two rows of `executemany`. So a batch is cut into a few pieces, and each piece is one
statement whose text was made before and which goes straight to the driver.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, cast

from sqlalchemy import BindParameter, ClauseElement, Connection, Table, bindparam, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from common.db_failures import as_outage, is_useless
from common.row_security import run_for_all
from common.tenancy import reaches_tenants, refuse_unscoped

SIZES = (128, 96, 64, 48, *range(32, 0, -1))
Row = tuple[Any, ...]


class BulkInsert:
    """Inserts rows into `table`, of which each has a value for every one of `columns`: all of them unless given.

    With `ignore_repeats` rows whose key exists stay as they are. `returning` names a column that `new` returns.
    """

    def __init__(
        self,
        table: Table,
        *,
        columns: Sequence[str] | None = None,
        ignore_repeats: bool = False,
        returning: str | None = None,
    ) -> None:
        self._table = table
        self._columns = [column for column in table.c if columns is None or column.name in columns]
        if columns is not None and [column.name for column in self._columns] != list(columns):
            raise ValueError("these are not columns of the table in its order")
        self._ignore_repeats = ignore_repeats
        self._returning = returning
        self._statement = PreparedStatement(self._made)
        self.warm_up = self._statement.warm_up

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Insert `rows`, each with its values in the order of the table's columns; return how many were new."""
        return sum(
            self._statement.run(connection, tuple(chain.from_iterable(piece)), size=len(piece)).rowcount
            for piece in _pieces(rows)
        )

    def new(self, connection: Connection, rows: Sequence[Row]) -> list[Any]:
        """Insert `rows` and return the column `returning` of those that were new."""
        return [
            value
            for piece in _pieces(rows)
            for (value,) in self._statement.rows(
                connection, tuple(chain.from_iterable(piece)), size=len(piece)
            )
        ]

    def _made(self, dialect: Dialect, size: int) -> ClauseElement:
        make = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        rows = [
            {column.name: bindparam(f"{column.name}_{row}", type_=column.type) for column in self._columns}
            for row in range(size)
        ]
        insert = make(self._table).values(rows)
        if self._ignore_repeats:
            insert = insert.on_conflict_do_nothing()
        return insert if self._returning is None else insert.returning(self._table.c[self._returning])


class BulkDelete:
    """Deletes the rows of `table` in which column `one_of` has one of many values and column `fixed` has one."""

    def __init__(self, table: Table, *, fixed: str, one_of: str) -> None:
        self._fixed, self._one_of, self._table = table.c[fixed], table.c[one_of], table
        self._statement = PreparedStatement(self._made)
        self.warm_up = self._statement.warm_up

    def run(self, connection: Connection, fixed: str, values: Sequence[str]) -> None:
        """Delete the rows that have `fixed` and one of `values`."""
        for piece in _pieces(values):
            self._statement.run(connection, (fixed, *piece), size=len(piece))

    def _made(self, _dialect: Dialect, size: int) -> ClauseElement:
        wanted = [bindparam(f"value_{position}", type_=self._one_of.type) for position in range(size)]
        fixed = bindparam("fixed", type_=self._fixed.type)
        return delete(self._table).where(self._fixed == fixed, self._one_of.in_(wanted))


class BulkSelect:
    """Selects for many values: `make` returns the statement for the parameters that stand for some of them."""

    def __init__(self, make: Callable[[Sequence[BindParameter[Any]]], ClauseElement]) -> None:
        self._make = make
        self._statement = PreparedStatement(self._made)
        self.warm_up = self._statement.warm_up

    def run(self, connection: Connection, values: Sequence[str]) -> list[Row]:
        """Return the rows that are found, as the driver gives them."""
        return [
            row
            for piece in _pieces(values)
            for row in self._statement.rows(connection, tuple(piece), size=len(piece))
        ]

    def _made(self, _dialect: Dialect, size: int) -> ClauseElement:
        return self._make([bindparam(f"value_{position}") for position in range(size)])


class PreparedStatement:
    """One statement whose text is made once for each engine and number of rows; its parameters go by position."""

    def __init__(self, make: Callable[[Dialect, int], ClauseElement]) -> None:
        self._make = make
        self._texts: dict[tuple[str, int], str] = {}
        self._reaches_tenants = False

    def run(self, connection: Connection, parameters: Row, *, size: int = 1) -> Any:  # noqa: ANN401 - a DBAPI cursor
        """Run it with `parameters` and return the driver's cursor; raises what SQLAlchemy would raise."""
        return self._run(connection, parameters, size, lambda cursor: cursor)

    def rows(self, connection: Connection, parameters: Row, *, size: int = 1) -> list[Row]:
        """Run it with `parameters` and return all its rows; raises what SQLAlchemy would raise."""
        found: list[Row] = self._run(connection, parameters, size, lambda cursor: cursor.fetchall())
        return found

    def _run(self, connection: Connection, parameters: Row, size: int, take: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - what `take` returns of a DBAPI cursor
        text = self._text(connection.dialect, size)
        if self._reaches_tenants:
            run_for_all(connection)  # its rows are of many institutions
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, parameters)
            return take(cursor)
        except Exception as error:
            raise _as_sqlalchemy_has_it(connection, error) from error

    def warm_up(self, connection: Connection) -> None:
        """Make the text for every size now, so that no batch waits for it."""
        for size in SIZES:
            self._text(connection.dialect, size)

    def _text(self, dialect: Dialect, size: int) -> str:
        return self._texts.get((dialect.name, size)) or self._compiled(dialect, size)

    def _compiled(self, dialect: Dialect, size: int) -> str:
        positional: Dialect = cast("Any", type(dialect))(
            paramstyle="qmark" if dialect.name == "sqlite" else "format"
        )
        compiled = self._make(positional, size).compile(dialect=positional)
        refuse_unscoped(compiled)  # what goes straight to the driver passes no other guard
        self._reaches_tenants = reaches_tenants(compiled)
        text = str(compiled)
        self._texts[dialect.name, size] = text
        return text


def _as_sqlalchemy_has_it(connection: Connection, error: Exception) -> BaseException:
    """Return a driver's error wrapped; a connection that broke is marked, so that nobody rolls back on it."""
    dialect, driver = connection.dialect, connection.connection.dbapi_connection
    base = dialect.loaded_dbapi.Error
    useless = is_useless(error)
    is_lost = useless or (isinstance(error, base) and dialect.is_disconnect(error, driver, None))
    if is_lost:
        connection.invalidate(error)
    if useless:
        return as_outage(error)
    return DBAPIError.instance(
        None, None, error, base, hide_parameters=True, connection_invalidated=is_lost, dialect=dialect
    )


def _pieces(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    start = 0
    while left := len(rows) - start:
        size = next(size for size in SIZES if size <= left)
        yield rows[start : start + size]
        start += size
