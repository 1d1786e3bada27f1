"""Row-level security: PostgreSQL keeps the institutions apart a second time, should a statement not say whose it is.

Every table of tenants has a policy that shows a row only to a transaction that runs for its institution, or for all of
them. `follow` lets an engine say so by itself, from what `common.tenancy` knows of each statement. It is said for the
running transaction alone, so a pooler that hands connections round by transaction passes nothing on.
"""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Insert,
    MetaData,
    String,
    Table,
    alias,
    bindparam,
    column,
    event,
    func,
    inspect,
    literal,
    literal_column,
    or_,
    select,
    table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from common.tenancy import COLUMN, EVERY_TENANT, TENANT, THROUGH, is_of_tenants, writes_objects_of

INSTITUTION_SETTING = "assay.institution_id"
EVERY_TENANT_SETTING = "assay.every_tenant"
ON = "on"
POLICY = "of_its_institution"
Scope = tuple[str, str]
"""For whom a transaction runs: the values of both settings."""
FOR_ALL: Scope = ("", ON)
_ENTERED = "assay.scope"
ENTERING = select(
    func.set_config(literal(INSTITUTION_SETTING), bindparam("institution", type_=String), True),
    func.set_config(literal(EVERY_TENANT_SETTING), bindparam("every", type_=String), True),
)
"""Says for whom the running transaction runs."""
_POLICIES = table("pg_policies", column("schemaname"), column("tablename"), column("policyname"))
_ROLES = table("pg_roles", column("rolname"), column("rolsuper"), column("rolbypassrls"))


class EnforceRowSecurity(DDLElement):
    """Lets the policies of a table hold for everybody, its owner too; without any policy nobody sees a row."""

    def __init__(self, secured: Table) -> None:
        self.table = secured


class LiftRowSecurity(EnforceRowSecurity):
    """Lets everybody see every row of a table again."""


class CreatePolicy(EnforceRowSecurity):
    """Shows each row of a table to its institution, and to whoever runs for all, and lets nobody else write it."""


class DropPolicy(EnforceRowSecurity):
    """Takes that away."""


@compiles(EnforceRowSecurity, "postgresql")
def _enforcing(element: EnforceRowSecurity, compiler: DDLCompiler, **_: Any) -> str:  # noqa: ANN401
    name = compiler.preparer.format_table(element.table)
    return f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"


@compiles(LiftRowSecurity, "postgresql")
def _lifting(element: LiftRowSecurity, compiler: DDLCompiler, **_: Any) -> str:  # noqa: ANN401
    name = compiler.preparer.format_table(element.table)
    return f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY"


@compiles(CreatePolicy, "postgresql")
def _creating(element: CreatePolicy, compiler: DDLCompiler, **_: Any) -> str:  # noqa: ANN401
    name = compiler.preparer.format_table(element.table)
    condition = compiler.sql_compiler.process(may_be_reached(element.table), literal_binds=True)
    return f"CREATE POLICY {POLICY} ON {name} USING ({condition}) WITH CHECK ({condition})"


@compiles(DropPolicy, "postgresql")
def _dropping(element: DropPolicy, compiler: DDLCompiler, **_: Any) -> str:  # noqa: ANN401
    return f"DROP POLICY {POLICY} ON {compiler.preparer.format_table(element.table)}"


def may_be_reached(secured: Table) -> ColumnElement[bool]:
    """Return the condition of a policy: the transaction runs for all, or for whom the row belongs to."""
    # sub-selects: the settings are read once for each statement, not once for each row
    every = select(func.current_setting(EVERY_TENANT_SETTING, True)).scalar_subquery()
    institution = select(func.current_setting(INSTITUTION_SETTING, True)).scalar_subquery()

    def of_the_row(name: str) -> ColumnElement[Any]:
        return literal_column(f"{secured.name}.{name}")  # a policy stands in no SELECT that it could refer to

    return or_(every == literal(ON), _belongs(secured, of_the_row, institution))


def protect(connection: Connection, *schemas: MetaData) -> None:
    """Give every table of tenants that is there, and has none yet, its policy. Other engines know no such thing.

    A migration that makes a table of tenants calls this afterwards.
    """
    for each in _secured(connection, schemas):
        if not _has_policy(connection, each):
            connection.execute(EnforceRowSecurity(each))
            connection.execute(CreatePolicy(each))


def unprotect(connection: Connection, *schemas: MetaData) -> None:
    """Take the policies away again."""
    for each in _secured(connection, schemas):
        if _has_policy(connection, each):
            connection.execute(LiftRowSecurity(each))
            connection.execute(DropPolicy(each))


def stands_above_policies(connection: Connection) -> bool:
    """Whether no policy holds for this connection's role: for superusers, and whoever may bypass them."""
    if connection.dialect.name != "postgresql":
        return False
    role = _ROLES.c.rolname == func.current_user()
    return bool(connection.scalar(select(or_(_ROLES.c.rolsuper, _ROLES.c.rolbypassrls)).where(role)))


def follow(engine: Engine) -> None:
    """Let `engine` tell PostgreSQL for whom each transaction runs, before a statement that asks for somebody else.

    It costs a round trip when that changes: one for a request that is of one institution.
    """
    if engine.dialect.name == "postgresql":
        event.listen(engine, "before_cursor_execute", _enter_for_statement)
        event.listen(engine, "begin", _forget)
        event.listen(engine, "rollback_savepoint", _forget)


def run_for_all(connection: Connection) -> None:
    """Let the running transaction reach the rows of all; for what goes past SQLAlchemy to the driver."""
    if connection.dialect.name == "postgresql":
        _enter(connection, FOR_ALL)


def _enter_for_statement(
    connection: Connection,
    _cursor: object,
    _text: str,
    _parameters: object,
    context: Any,  # noqa: ANN401 - an execution context
    _many: bool,  # noqa: FBT001 - what SQLAlchemy calls a listener with
) -> None:
    scope = _scope_of(context)
    if scope is None or (context.isinsert and _entered(connection) == FOR_ALL):
        return  # whose a new row is, it says itself: who runs for all need not be narrowed down for it
    _enter(connection, scope)


def _scope_of(context: Any) -> Scope | None:  # noqa: ANN401 - an execution context
    """Return for whom a statement runs; None when it reaches no rows of tenants."""
    compiled = context.compiled
    if compiled is not None and compiled.statement is ENTERING:
        return None  # it says for whom, whatever its connection is marked for
    if TENANT in getattr(compiled, "binds", ()):  # first: who names one institution needs no other
        return _of({row[TENANT] for row in context.compiled_parameters})
    if EVERY_TENANT in context.execution_options:
        return FOR_ALL
    if compiled is None:
        return None
    if not (compiled.statement.is_dml and is_of_tenants(compiled.statement.table)):
        return None
    if isinstance(compiled.statement, Insert):
        return _of(set(_named_owners(context.compiled_parameters)))
    return _of(writes_objects_of())


def _named_owners(rows: list[dict[str, Any]]) -> Iterator[str | None]:
    """Yield whose the rows of an INSERT are; a table whose rows belong through others names nobody."""
    for row in rows:
        # a statement with several rows calls them institution_id_m0, institution_id_m1 and so on
        yield from (row[name] for name in row if name == COLUMN or name.startswith(f"{COLUMN}_m"))


def _of(owners: set[str | None] | frozenset[str | None]) -> Scope:
    """Return the scope of one owner; rows of several, or of somebody who is not named, are written for all."""
    owner = next(iter(owners)) if len(owners) == 1 else None
    return FOR_ALL if owner is None else (owner, "")


def _entered(connection: Connection) -> Scope | None:
    entered: Scope | None = connection.info.get(_ENTERED)
    return entered


def _enter(connection: Connection, scope: Scope) -> None:
    if _entered(connection) == scope:
        return
    connection.info[_ENTERED] = scope
    connection.execute(ENTERING, {"institution": scope[0], "every": scope[1]})


def _forget(connection: Connection, *_about: object) -> None:
    connection.info.pop(_ENTERED, None)  # what was said before is not true of this transaction, or is undone


def _secured(connection: Connection, schemas: tuple[MetaData, ...]) -> Iterator[Table]:
    if connection.dialect.name != "postgresql":
        return
    there = set(inspect(connection).get_table_names())
    for schema in schemas:
        yield from (each for each in schema.sorted_tables if is_of_tenants(each) and each.name in there)


def _has_policy(connection: Connection, secured: Table) -> bool:
    policies = _POLICIES.c
    found = select(policies.policyname).where(
        policies.schemaname == func.current_schema(),
        policies.tablename == secured.name,
        policies.policyname == POLICY,
    )
    return connection.execute(found).first() is not None


def _belongs(
    secured: Table, of_the_row: Callable[[str], ColumnElement[Any]], institution: ColumnElement[Any]
) -> ColumnElement[bool]:
    if COLUMN in secured.c:
        return of_the_row(COLUMN) == institution
    name, to = secured.info[THROUGH]
    owners_table, key = to.split(".")
    owners = secured.metadata.tables[owners_table]
    owner = alias(owners)

    def of_the_owner(named: str) -> ColumnElement[Any]:
        return owner.c[named]

    return (
        select(literal_column("1"))
        .select_from(owner)
        .where(owner.c[key] == of_the_row(name), _belongs(owners, of_the_owner, institution))
        .exists()
    )
