"""Statements for asyncpg: made of the tables like all others, their text once and for any number of rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ARRAY, ClauseElement, Column, TableValuedAlias, bindparam, column, func
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.type_api import TypeEngine

from common.tenancy import refuse_unscoped

_DIALECT = cast("Any", PGDialect_asyncpg)()
Rows = Sequence[tuple[Any, ...]]


class Statement:
    """One statement whose text was made when it was declared; what goes into it is named, as in SQLAlchemy.

    Raises `UnscopedStatementError` when it reaches rows of tenants and does not say whose: it passes no other guard.
    """

    def __init__(self, clause: ClauseElement) -> None:
        compiled = cast("SQLCompiler", clause.compile(dialect=_DIALECT))
        refuse_unscoped(compiled)
        self.text = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._given: Mapping[str, Any] = compiled.params

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return what the driver is given, in order: of `values` what they name, otherwise what the clause said."""
        given = self._given
        return [values[name] if name in values else given[name] for name in self._names]


def unnested(name: str, columns: Iterable[Column[Any]]) -> TableValuedAlias:
    """Return the rows that a statement is given, as a table `name` with columns like `columns`.

    Each column is one parameter, an array, so the text is the same for any number of rows. See `transposed`.
    """
    columns = list(columns)
    arrays = [bindparam(f"{name}_{each.name}", type_=ARRAY(_unbounded(each.type))) for each in columns]
    rows = func.unnest(*arrays).table_valued(*[column(each.name, _unbounded(each.type)) for each in columns])
    return rows.render_derived(name=name)


def transposed(name: str, columns: Iterable[Column[Any]], rows: Rows) -> dict[str, Sequence[Any]]:
    """Return `rows`, each with a value for every one of `columns`, as the parameters of `unnested`."""
    names = [f"{name}_{each.name}" for each in columns]
    return dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def _unbounded(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    # without its length: a cast to VARCHAR(64) cuts what is longer, the column itself refuses it
    return type(kind)()
