"""What still has to be told: rows written in the same transaction as the thing itself, gone once it was told.

A row names a subject (a decision, an alert), not a message: whoever sends builds the message from the subject.
A row is *due* when its `due_at` has come; taking it moves `due_at` into the future, which is its lease.
"""

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    case,
    func,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from common.bulk import BulkDelete, BulkInsert

LEASE_MS = 5_000
FIRST_BACKOFF_MS = 500
MAX_BACKOFF_MS = 30_000
WAKE_ROWS = 2_000
MOST_COUNTED = 10_000
REFUSED = "refused: "


def outbox_table(metadata: MetaData) -> Table:
    """Declare the outbox in a service's own schema."""
    return Table(
        "outbox",
        metadata,
        Column("target", String(32), primary_key=True),
        Column("subject_id", String(64), primary_key=True),
        Column("attempts", Integer, nullable=False),
        Column("due_at", BigInteger, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("last_error", String(200)),
        Index("outbox_due", "target", "due_at"),
    )


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One subject that has to be told to one target."""

    target: str
    subject_id: str


class Outbox:
    """The statements on one service's outbox table; times are milliseconds since 1970."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._insert = BulkInsert(table)
        self._delete = BulkDelete(table, fixed="target", one_of="subject_id")

    def warm_up(self, connection: Connection) -> None:
        """Make the statements over many rows now, so that no batch waits for them."""
        self._insert.warm_up(connection)
        self._delete.warm_up(connection)

    def add(self, connection: Connection, entries: Sequence[OutboxEntry], *, now: int, lease_ms: int) -> None:
        """Write `entries`, leased for `lease_ms` to the one who is about to tell them."""
        due_at = now + lease_ms
        self._insert.run(
            connection, [(entry.target, entry.subject_id, 0, due_at, now, None) for entry in entries]
        )

    def remove(self, connection: Connection, target: str, subject_ids: Collection[str]) -> None:
        """Take away what was told."""
        self._delete.run(connection, target, list(subject_ids))

    def claim(self, connection: Connection, target: str, *, now: int, limit: int) -> list[str]:
        """Lease up to `limit` due rows of `target` and return their subjects, oldest first.

        A leased row forgets its last error, so that `wake` leaves it alone. A due time further ahead than any lease
        or backoff means that the clock was set back; it counts as due, once nothing else is.
        """
        due_at = self._table.c.due_at
        return self._lease(connection, target, due_at <= now, now=now, limit=limit) or self._lease(
            connection, target, due_at > now + 2 * MAX_BACKOFF_MS, now=now, limit=limit
        )

    def _lease(
        self, connection: Connection, target: str, is_due: ColumnElement[bool], *, now: int, limit: int
    ) -> list[str]:
        """One statement, so that two processes on one SQLite file never take the same row.

        A range of the index in the order of the index: it costs the same however many rows wait.
        """
        table = self._table
        due = (
            select(table.c.subject_id)
            .where(table.c.target == target, is_due)
            .order_by(table.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
            .prefix_with(
                "MATERIALIZED", dialect="postgresql"
            )  # a plan that ran it twice would lock more rows
        )
        claimed = connection.execute(
            update(table)
            .where(table.c.target == target, table.c.subject_id.in_(select(due.c.subject_id)))
            .values(due_at=now + LEASE_MS, attempts=table.c.attempts + 1, last_error=None)
            .returning(table.c.created_at, table.c.subject_id)
        )
        return [subject_id for _, subject_id in sorted((row.created_at, row.subject_id) for row in claimed)]

    def put_back(
        self,
        connection: Connection,
        target: str,
        subject_ids: Collection[str],
        *,
        now: int,
        delay_ms: int,
        error: str,
    ) -> None:
        """Make rows that could not be told due again after `delay_ms`."""
        if not subject_ids:
            return
        table = self._table
        connection.execute(
            update(table)
            .where(table.c.target == target, table.c.subject_id.in_(list(subject_ids)))
            .values(due_at=now + delay_ms, last_error=error[:200])
        )

    def wake(self, connection: Connection, target: str, *, now: int, limit: int = WAKE_ROWS) -> int:
        """Make up to `limit` rows of `target` that wait after a failure due, and return how many.

        Among those that are due the oldest come first.
        """
        table = self._table
        waiting = (
            select(table.c.subject_id)
            .where(
                table.c.target == target,
                table.c.last_error.is_not(None),
                table.c.last_error.not_like(REFUSED + "%"),
                table.c.due_at > now,
            )
            .limit(limit)
        )
        woken = connection.execute(
            update(table)
            .where(table.c.target == target, table.c.subject_id.in_(waiting))
            .values(due_at=case((table.c.created_at < now, table.c.created_at), else_=now))
        )
        return woken.rowcount

    def pending(self, connection: Connection, target: str) -> tuple[int, int | None]:
        """Return how many rows `target` has, `MOST_COUNTED` for more, and when the oldest of them was written.

        It looks at so many rows at most, in the order of their subjects: ids sort by time, so the oldest is there.
        """
        table = self._table
        first = (
            select(table.c.created_at)
            .where(table.c.target == target)
            .order_by(table.c.subject_id)
            .limit(MOST_COUNTED)
            .subquery()
        )
        count, oldest = connection.execute(select(func.count(), func.min(first.c.created_at))).one()
        return int(count), oldest

    def pending_subjects(
        self, connection: Connection, subject_ids: Iterable[str], *, targets: Sequence[str]
    ) -> set[tuple[str, str]]:
        """Return which (target, subject) pairs of `targets` and `subject_ids` still have to be told."""
        table = self._table
        rows = connection.execute(
            select(table.c.target, table.c.subject_id).where(
                # with the target, which the key begins with: a search of the key, not of the table
                table.c.target.in_(list(targets)),
                table.c.subject_id.in_(list(subject_ids)),
            )
        )
        return {(row.target, row.subject_id) for row in rows}


def backoff_ms(failures: int) -> int:
    """Return the wait after `failures` failed tries in a row: doubling from 0.5 s up to 30 s, with full jitter."""
    longest = min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** min(failures, 16))
    return random.randint(FIRST_BACKOFF_MS // 2, longest)  # noqa: S311 - spreads load, guards nothing
