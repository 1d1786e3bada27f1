"""The statements on changes."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

from common.changes.tables import FOR_ALL

CHANNEL: Final = "assay_changes"
Subject = tuple[str, str]
"""A topic, and the scope of its change: an institution, or `FOR_ALL`."""


def announce(
    connection: Connection, changes: Table, topic: str, *, scope: str = FOR_ALL, now_ms: int
) -> None:
    """Say in the running transaction that `topic` changed: with its commit every process hears of it.

    It is called last: whoever announces the same waits until this transaction ends.
    """
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = make(changes).values(scope=scope, topic=topic, version=1, changed_at_ms=now_ms)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=["scope", "topic"],
            set_={"version": changes.c.version + 1, "changed_at_ms": now_ms},
        )
    )
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, topic)))


def versions(connection: Connection, changes: Table) -> Mapping[Subject, int]:
    """Return the version of everything that ever changed."""
    query = select(changes.c.topic, changes.c.scope, changes.c.version)
    return {(row.topic, row.scope): row.version for row in connection.execute(query)}
