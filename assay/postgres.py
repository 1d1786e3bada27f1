"""What only PostgreSQL has: COPY, locks over whole tables, sequences, row-level security, who is connected."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import sql
from sqlalchemy import Connection, column, func, inspect, select, table

from assay.errors import InUseError
from common.db import writing_engine

LOCK_TIMEOUT = "5s"
_classes = table("pg_class", column("oid"), column("relname"), column("relforcerowsecurity"))
_activity = table("pg_stat_activity", column("datname"), column("pid"), column("backend_type"))


def refuse_connected(service: str, url: str) -> None:
    """Raise `InUseError` while somebody is connected to the database at `url`."""
    engine = writing_engine(url, timeouts=None)
    try:
        with engine.connect() as connection:
            refuse_others(service, connection)
    finally:
        engine.dispose()


def refuse_others(service: str, connection: Connection) -> None:
    """Raise `InUseError` while somebody else is connected to the database of `connection`."""
    others = (
        select(func.count())
        .select_from(_activity)
        .where(
            _activity.c.datname == func.current_database(),
            _activity.c.pid != func.pg_backend_pid(),
            _activity.c.backend_type == "client backend",
        )
    )
    found = connection.scalar(others)
    if found:
        raise InUseError(
            f"Others are connected to the database of {service} on PostgreSQL ({found}).",
            details=[f"Stop {service}, and every other program that uses this database."],
        )


def lock_out_others(connection: Connection) -> None:
    """Let nobody else touch any table until the transaction ends."""
    connection.execute(select(func.set_config("lock_timeout", LOCK_TIMEOUT, True)))
    names = sql.SQL(", ").join(map(sql.Identifier, inspect(connection).get_table_names()))
    _run(connection, sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))


def copy_rows(
    connection: Connection, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Put `rows` into a table by COPY."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with _driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


@contextmanager
def written_by_its_owner(connection: Connection, name: str) -> Iterator[None]:
    """Let the owner of a table write past its row-level security while the block runs: COPY knows no policies.

    Others never see it: the table is locked, and all of it is one transaction.
    """
    forced = connection.scalar(
        select(_classes.c.relforcerowsecurity).where(
            _classes.c.oid == func.to_regclass(func.quote_ident(name))
        )
    )
    if forced:
        _run(connection, sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(sql.Identifier(name)))
    yield
    if forced:
        _run(connection, sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(sql.Identifier(name)))


def advance_sequences(connection: Connection, name: str, columns: Iterable[str]) -> None:
    """Let what numbers a column go on behind the greatest number that is there."""
    for each in columns:
        sequence = connection.scalar(select(func.pg_get_serial_sequence(func.quote_ident(name), each)))
        if sequence is None:
            continue
        greatest = connection.scalar(select(func.max(column(each))).select_from(table(name, column(each))))
        if greatest is not None and greatest > 0:
            connection.execute(select(func.setval(sequence, greatest)))


def _run(connection: Connection, statement: sql.Composed) -> None:
    with _driver(connection).cursor() as cursor:
        cursor.execute(statement)


def _driver(connection: Connection) -> Any:  # noqa: ANN401 - psycopg's own connection
    return connection.connection.driver_connection
