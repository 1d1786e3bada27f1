"""Tells whether a database holds nothing but what its migrations put there."""

import tempfile
from pathlib import Path

from sqlalchemy import Connection, func, inspect, select, table

from assay.databases import ServiceDatabase
from assay.errors import NotEmptyError
from assay.reading import WHOLE, shown
from common.db import migrate, writing_engine
from common.tenancy import of_every_tenant

OF_ALEMBIC = "alembic_version"


def refuse_filled(database: ServiceDatabase, connection: Connection, url: str, *, revision: str) -> None:
    """Raise `NotEmptyError` when a service or a person has put rows into the database, which has this revision."""
    at_first = _rows_at_first(database, revision)
    odd = [f"{name}: {rows} rows" for name, rows in _rows(connection).items() if rows > at_first.get(name, 0)]
    if odd:
        raise NotEmptyError(
            f"{shown(url)} is not empty; it was left as it is.",
            details=[*odd, "Choose an empty database, or drop this one if nobody needs it."],
        )


def _rows_at_first(database: ServiceDatabase, revision: str) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        url = f"sqlite:///{Path(folder) / 'fresh.db'}"
        migrate(url, migrations=database.migrations, revision=revision)
        engine = writing_engine(url, timeouts=None)
        try:
            with engine.connect() as connection:
                return _rows(connection)
        finally:
            engine.dispose()


def _rows(connection: Connection) -> dict[str, int]:
    """Return how many rows each table has; of PostgreSQL's partitioned tables the parts are named too."""
    names = [name for name in inspect(connection).get_table_names() if name != OF_ALEMBIC]
    counting = {name: of_every_tenant(select(func.count()).select_from(table(name)), WHOLE) for name in names}
    return {name: connection.scalar(query) or 0 for name, query in counting.items()}
