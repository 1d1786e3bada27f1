"""Tenancy: a statement is of one institution, or says why it is of all of them; no other reaches a table of tenants.

A table of tenants has a column `institution_id`, or says with `belongs_through` to which row its rows belong.
`of_tenant` adds the condition of the institution for each of them; what `guard` watches runs nothing without it.
The condition is looked for in the statement itself, not taken on trust: a table that is joined afterwards has none.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, cast
from weakref import WeakSet

from sqlalchemy import (
    BindParameter,
    BooleanClauseList,
    ClauseElement,
    ColumnElement,
    Delete,
    Engine,
    Executable,
    FromClause,
    Insert,
    Join,
    Select,
    Table,
    Update,
    bindparam,
    event,
    inspect,
    literal_column,
    or_,
    select,
)
from sqlalchemy.engine import Compiled
from sqlalchemy.orm import Session
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnClause, Grouping
from sqlalchemy.sql.selectable import AliasedReturnsRows, FromGrouping, SelectBase

_Named = tuple[FromClause, bool]
COLUMN = "institution_id"
TENANT = "of_tenant"
"""The name of the parameter that holds the institution: one in a statement, so it cannot be of two."""
EVERY_TENANT = "of_every_tenant"
THROUGH = "belongs_through"
"""The name under which a table's `info` says through which row its rows belong to somebody."""
MAX_PLANS = 2_000
_plans: dict[
    Any, list[_Named]
] = {}  # what SELECTs of one shape name: finding it out takes longer than running them
_checked: WeakSet[Compiled] = WeakSet()
_NOBODY: frozenset[str | None] = frozenset()
_writes_objects_of: ContextVar[frozenset[str | None]] = ContextVar("writes_objects_of", default=_NOBODY)
StatementT = TypeVar("StatementT", bound=Select[*tuple[Any, ...]] | Update | Delete)
ExecutableT = TypeVar("ExecutableT", bound=Executable)


class UnscopedStatementError(Exception):
    """A statement reaches rows of tenants and does not say whose; nothing was run. A mistake in our code."""

    def __init__(self, tables: Sequence[str]) -> None:
        super().__init__(
            f"A statement reaches the rows of all institutions in: {', '.join(tables)}. "
            "Make it with of_tenant(institution_id, statement) of common.tenancy, after its last join, and so every "
            "SELECT inside it. Where it has to work for all institutions, use of_every_tenant(statement, "
            '"why") and add the reason to tests/security/tenancy/reasons.py. An INSERT that updates on conflict needs '
            "institution_id in the key of the conflict."
        )


def belongs_through(column: str, *, to: str) -> dict[str, tuple[str, str]]:
    """Return the `info` of a table whose rows belong to whom the row `to` ("table.column") belongs."""
    return {THROUGH: (column, to)}


def is_of_tenants(table: Table) -> bool:
    """Whether the rows of `table` belong to institutions."""
    return COLUMN in table.c or THROUGH in table.info


def of_tenant(institution_id: str, statement: StatementT) -> StatementT:
    """Return `statement` limited to the rows of one institution, in each table of tenants it names.

    Tables that are joined later and SELECTs inside it are not covered; they need their own.
    """
    tenant: BindParameter[str] = bindparam(TENANT, institution_id)
    conditions = [_condition(table, tenant, optional=optional) for table, optional in _named(statement)]
    return cast("StatementT", statement.where(*conditions))


def of_every_tenant(statement: ExecutableT, reason: str) -> ExecutableT:
    """Return `statement` marked as one that works for all institutions, and why it has to."""
    assert reason  # noqa: S101 - a reason is a literal; a test lists them all
    return statement.execution_options(**{EVERY_TENANT: reason})


def guard(engine: Engine) -> None:
    """Let `engine` refuse statements that reach rows of tenants without saying whose."""
    event.listen(engine, "before_cursor_execute", _refuse_at_run)


def refuse_unscoped(compiled: Compiled) -> None:
    """Raise `UnscopedStatementError` for a statement that is compiled once and run past the engine's guard."""
    if EVERY_TENANT not in compiled.execution_options:
        _refuse(compiled)


def reaches_tenants(compiled: Compiled) -> bool:
    """Whether a statement names a table of tenants anywhere."""
    named = visitors.iterate(cast("ClauseElement", compiled.statement))
    written = getattr(compiled.statement, "table", None)
    return any(isinstance(each, Table) and is_of_tenants(each) for each in (written, *named))


class TenantSession(Session):
    """A session whose objects are written by their key: whoever loaded or made them said whose they are."""

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Write what changed; raises `UnscopedStatementError` for an object that was given to another institution."""
        moved = {type(each).__name__ for each in self.dirty if _is_moved(each)}
        if moved:
            raise UnscopedStatementError(sorted(moved))
        owners = {_owner(each) for each in (*self.new, *self.dirty, *self.deleted)}
        writing = _writes_objects_of.set(frozenset(owners) or frozenset({None}))
        try:
            super().flush(objects)
        finally:
            _writes_objects_of.reset(writing)


def writes_objects_of() -> frozenset[str | None]:
    """Return whose objects are being written by their key; None stands for those that do not name an institution."""
    return _writes_objects_of.get()


def _refuse_at_run(
    _connection: object,
    _cursor: object,
    _text: str,
    _parameters: object,
    context: Any,  # noqa: ANN401 - an execution context
    _many: bool,  # noqa: FBT001 - what SQLAlchemy calls a listener with
) -> None:
    compiled = context.compiled
    if compiled is None or compiled in _checked or EVERY_TENANT in context.execution_options:
        return
    if not (_writes_objects_of.get() and compiled.statement.is_dml):
        _refuse(compiled)
        _checked.add(compiled)  # SQLAlchemy keeps it for all statements like it


def _refuse(compiled: Compiled) -> None:
    if isinstance(compiled, SQLCompiler):
        tables = _uncovered(cast("ClauseElement", compiled.statement))
        if tables:
            raise UnscopedStatementError(sorted(tables))


def _is_moved(row: object) -> bool:
    state = inspect(row)
    return COLUMN in state.attrs and state.attrs[COLUMN].history.has_changes()


def _owner(row: object) -> str | None:
    owner: str | None = inspect(row).dict.get(COLUMN)
    return owner


def _condition(
    table: FromClause, tenant: BindParameter[str], *, optional: bool = False
) -> ColumnElement[bool]:
    """Return what limits `table` to the tenant; as the optional side of a join its row may also be missing."""
    if COLUMN in table.c:
        owned: ColumnElement[bool] = table.c[COLUMN] == tenant
    else:
        real = _real(table)
        column, to = real.info[THROUGH]
        name, key = to.split(".")
        owner = real.metadata.tables[name].alias()
        owned = (
            select(literal_column("1"))
            .select_from(owner)
            .where(owner.c[key] == table.c[column], _condition(owner, tenant))
            .correlate(table)
            .exists()
        )
    return or_(owned, next(iter(table.primary_key)).is_(None)) if optional else owned


def _named(statement: Executable) -> list[_Named]:
    """Return each table of tenants that `statement` itself names, and whether it is the optional side of a join."""
    if not isinstance(statement, Select):
        return _of_tenants(_written(statement))
    shape = statement._generate_cache_key()  # the way to tell statements of one shape
    key = None if shape is None else shape.key
    named = _plans.get(key)
    if named is None:
        named = _of_tenants(statement.get_final_froms())
        # an alias is another one in the next statement of this shape
        if key is not None and not any(isinstance(table, AliasedReturnsRows) for table, _ in named):
            if len(_plans) >= MAX_PLANS:
                _plans.clear()
            _plans[key] = named
    return named


def _of_tenants(named: Iterable[FromClause]) -> list[_Named]:
    found = [each for one in named for each in _joined(one, optional=False)]
    return [(table, optional) for table, optional in found if is_of_tenants(_real(table))]


def _written(statement: Any) -> Iterator[FromClause]:  # noqa: ANN401 - Update or Delete
    """Yield the table an UPDATE or DELETE writes, and those it takes values from."""
    waiting, seen = [statement], {statement.table}
    yield statement.table
    while waiting:
        element = waiting.pop()
        table = element.table if isinstance(element, ColumnClause) else element
        if isinstance(table, FromClause) and not isinstance(table, SelectBase) and table not in seen:
            seen.add(table)
            yield table
        waiting.extend(each for each in element.get_children() if not isinstance(each, SelectBase))


def _joined(named: FromClause, *, optional: bool) -> Iterator[_Named]:
    if isinstance(named, Join):
        yield from _joined(named.left, optional=optional or named.full)
        yield from _joined(named.right, optional=optional or named.isouter or named.full)
    elif isinstance(named, Table):
        yield named.metadata.tables[named.key], optional  # the ORM has its own copy of it
    elif isinstance(named, FromGrouping):
        yield from _joined(named.element, optional=optional)
    elif isinstance(named, AliasedReturnsRows) and isinstance(named.element, Table):
        yield named, optional


def _real(table: FromClause) -> Table:
    return cast("Table", table.element if isinstance(table, AliasedReturnsRows) else table)


def _uncovered(statement: ClauseElement) -> set[str]:
    """Return the tables of tenants whose condition is missing somewhere in `statement`."""
    uncovered: set[str] = set()
    waiting: list[ClauseElement] = [statement]
    seen: dict[int, object] = {}  # holding each, so that no other gets its id
    while waiting:
        element = waiting.pop()
        if id(element) in seen:
            continue
        seen[id(element)] = element
        if isinstance(element, Select | Update | Delete):
            criteria = list(_criteria(cast("ClauseElement | None", element.whereclause)))
            for table, optional in _named(element):
                wanted = _condition(table, bindparam(TENANT, ""), optional=optional)
                given = [each for each in criteria if _is_condition(each, table, wanted)]
                seen |= {id(each): each for condition in given for each in visitors.iterate(condition)}
                uncovered |= set() if given else {_real(table).name}
        elif isinstance(element, Insert) and _overwrites_others(element):
            uncovered.add(element.table.name)
        waiting.extend(cast("Iterator[ClauseElement]", element.get_children()))
    return uncovered


def _is_condition(criterion: ClauseElement, table: FromClause, wanted: ColumnElement[bool]) -> bool:
    """Whether `criterion` is `wanted`, of `table` itself: two aliases of a table look the same."""
    column = table.c[COLUMN] if COLUMN in table.c else table.c[_real(table).info[THROUGH][0]]
    return wanted.compare(criterion, compare_values=False) and column in set(visitors.iterate(criterion))


def _criteria(where: ClauseElement | None) -> Iterator[ClauseElement]:
    if isinstance(where, Grouping):
        yield from _criteria(cast("ClauseElement", where.element))
    elif isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        for clause in where.clauses:
            yield from _criteria(cast("ClauseElement", clause))
    elif where is not None:
        yield where


def _overwrites_others(statement: Insert) -> bool:
    """Whether an INSERT may change a row of another institution that has the same key."""
    table = cast("Table", statement.table)
    updates: list[Any] = [
        each for each in statement.get_children() if each.__visit_name__ == "on_conflict_do_update"
    ]
    return is_of_tenants(table) and any(
        COLUMN not in {getattr(key, "name", key) for key in each.inferred_target_elements or ()}
        for each in updates
    )
