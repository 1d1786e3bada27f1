"""Holds back or fails the COMMITs of a service inside PostgreSQL itself, whichever driver sends them.

A deferred constraint trigger runs when a transaction commits: it waits for a lock that the test holds, or raises what a
full disk raises.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.faults.stack import FaultyStack

LOCK = 7_261_190_424
CONNECT_TIMEOUT_S = 5
_HELD = f"PERFORM pg_advisory_xact_lock_shared({LOCK});"
_FAILED = "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';"
# a row of the table that each service writes in the transaction of what it acknowledges
WRITTEN = {
    "ai_service": "idempotency_keys",
    "user_service": "institutions",
    "alert_service": "alerts",
    "log_service": "audit_records",
}


@contextmanager
def held_in_postgresql(stack: FaultyStack, service: str) -> Iterator[Callable[[], None]]:
    """Hold back every commit of `service` until what is yielded is called, or the block ends."""
    with _connected(stack, service) as holder:
        holder.execute(b"SELECT pg_advisory_lock(%s)", [LOCK])
        with _at_commit(stack, service, _HELD):
            try:
                yield lambda: _let_go(holder)
            finally:
                _let_go(holder)


@contextmanager
def failing_in_postgresql(stack: FaultyStack, service: str) -> Iterator[None]:
    """Fail every commit of `service` while the block runs."""
    with _at_commit(stack, service, _FAILED):
        yield


def _let_go(holder: "psycopg.Connection[object]") -> None:
    holder.execute("SELECT pg_advisory_unlock_all()")


@contextmanager
def _at_commit(stack: FaultyStack, service: str, statement: str) -> Iterator[None]:
    table = sql.Identifier(WRITTEN[service])
    function = sql.SQL("CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS {}").format(
        sql.Literal(f"BEGIN {statement} RETURN NULL; END")
    )
    trigger = sql.SQL(
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION at_commit()"
    ).format(table)
    with _connected(stack, service) as connection:
        connection.execute(function)
        connection.execute(trigger)
    try:
        yield
    finally:
        with _connected(stack, service) as connection:
            connection.execute("DROP FUNCTION at_commit() CASCADE")


def _connected(stack: FaultyStack, service: str) -> "psycopg.Connection[object]":
    """Connect as the superuser, past the proxy."""
    storage = stack.stack.storage
    url = make_url(storage.admin_url).set(database=make_url(storage.databases[service]).database)
    return psycopg.connect(
        url.render_as_string(hide_password=False), autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
    )
