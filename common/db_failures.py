"""Connections to PostgreSQL that are of no more use: their server takes no writes, or has ended them.

After a failover a connection may reach a server that answers and refuses every change. Such a connection is thrown away
wherever that is noticed, and the refusal is an outage.
"""

from contextlib import suppress

import psycopg
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

# no writes here; idle in a transaction for too long; shut down, or starting
USELESS = ("25006", "25P03", "57P")
READ_ONLY = select(func.current_setting("transaction_read_only").label("read_only"))
# of a session, and told by the server without being asked
_TOLD = ("in_hot_standby", "default_transaction_read_only")


def is_useless(error: BaseException | None) -> bool:
    """Whether what a driver raised says that its connection is of no more use."""
    state: str = getattr(error, "sqlstate", None) or ""
    return state.startswith(USELESS)


def as_outage(error: BaseException, statement: str | None = None) -> OperationalError:
    """Return a driver's error as SQLAlchemy's for a server that is away; the connection is to be thrown away."""
    return OperationalError(statement, None, error, hide_parameters=True, connection_invalidated=True)


def takes_writes(connection: Connection) -> bool:
    """Whether the server, asked now, would let this connection change anything."""
    return connection.dialect.name != "postgresql" or connection.scalar(READ_ONLY) == "off"


def throw_away_useless(engine: Engine) -> None:
    """Let `engine`, which is there to write, keep no connection that is of no use."""
    if engine.dialect.name != "postgresql":
        return
    event.listen(engine, "handle_error", _failed)
    event.listen(engine, "checkin", _given_back)


def _failed(context: ExceptionContext) -> OperationalError | None:
    if not is_useless(context.original_exception):
        return None
    context.is_disconnect = True
    return as_outage(context.original_exception, context.statement)


def _given_back(_connection: object, entry: ConnectionPoolEntry) -> None:
    """Have a connection that was only read on, which no error tells of, replaced before it is used again."""
    connection = entry.driver_connection
    if connection is None:
        return
    with suppress(psycopg.OperationalError):  # it was closed
        if any(connection.info.parameter_status(name) == "on" for name in _TOLD):
            entry.invalidate(soft=True)
