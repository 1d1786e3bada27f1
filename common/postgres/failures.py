"""What asyncpg raises, as the classes of SQLAlchemy: whoever waits for a commit knows no driver."""

import asyncpg
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from common.db_failures import USELESS

# classes of SQLSTATE, and single states, that say that the server cannot now: as psycopg has them
_CANNOT_NOW = ("08", "28", "3D", "40", "53", "54", "55", "57", "58", *USELESS)
# the last two: a plan from before a migration; a row that waited for the default partition while its month was made
_UNDONE = ("08", "40", *USELESS, "0A000", "23514")
DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class DriverError(Exception):
    """What the server or driver said, without the values it said it of: they must not reach the log."""

    def __init__(self, error: BaseException) -> None:
        self.sqlstate: str | None = getattr(error, "sqlstate", None)
        message = error.args[0] if error.args else ""
        super().__init__(f"{type(error).__name__}: {message}".strip(": "))


def as_sqlalchemy_has_it(error: BaseException, *, is_lost: bool = False) -> DBAPIError:
    """Return one of `DRIVER_ERRORS` as SQLAlchemy's class for it; `is_lost` says that its connection broke."""
    said = DriverError(error)
    state = said.sqlstate or ""
    return _kind(error, state, is_lost=is_lost)(
        None,
        None,
        said,
        hide_parameters=True,
        connection_invalidated=is_lost or isinstance(error, OSError) or state.startswith("08"),
    )


def is_undone(error: DBAPIError) -> bool:
    """Whether the server took back what the transaction had done, and would take it the next time."""
    state: str = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_UNDONE)


def _kind(error: BaseException, state: str, *, is_lost: bool) -> type[DBAPIError]:
    if is_lost or isinstance(error, OSError | TimeoutError) or state.startswith(_CANNOT_NOW):
        return OperationalError
    if state.startswith("23"):
        return IntegrityError
    if state.startswith("22") or isinstance(error, asyncpg.DataError):
        return DataError
    if state:
        return ProgrammingError if state.startswith("42") else DBAPIError
    return InterfaceError
