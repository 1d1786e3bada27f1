"""What still has to be told: rows written in the same transaction as the thing itself, gone once it was told.

A row names a subject (a decision, an alert), not a message: whoever sends builds the message from the subject.
A row is *due* when its `due_at` has come; taking it moves `due_at` into the future, which is its lease.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    func,
    select,
    update,
)

from common.bulk import BulkDelete, BulkInsert
from common.clock import epoch_ms
from common.failpoints import failpoint
from common.http import Delivery
from common.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_PENDING
from common.writer import DatabaseWriter

LEASE_MS = 5_000
FIRST_BACKOFF_MS = 500
MAX_BACKOFF_MS = 30_000
IDLE_S = 0.5
MAX_PAUSE_MS = 5_000  # between two tries of a target that is away, however much waits for it
REFUSED = "refused: "
_log = structlog.get_logger()


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

        One statement, so that two processes on one SQLite file never take the same row. A leased row forgets its
        last error, so that `wake` leaves it alone. A due time further ahead than any lease or backoff means that
        the clock was set back; it counts as due.
        """
        table = self._table
        is_due = (table.c.due_at <= now) | (table.c.due_at > now + 2 * MAX_BACKOFF_MS)
        due = (
            select(table.c.subject_id)
            .where(table.c.target == target, is_due)
            .order_by(table.c.due_at, table.c.created_at)
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

    def wake(self, connection: Connection, target: str, *, now: int) -> None:
        """Make every row of `target` that waits after a failure due now."""
        table = self._table
        connection.execute(
            update(table)
            .where(
                table.c.target == target,
                table.c.last_error.is_not(None),
                table.c.last_error.not_like(REFUSED + "%"),
                table.c.due_at > now,
            )
            .values(due_at=now)
        )

    def pending(self, connection: Connection, target: str) -> tuple[int, int | None]:
        """Return how many rows `target` has and when the oldest was written."""
        table = self._table
        count, oldest = connection.execute(
            select(func.count(), func.min(table.c.created_at)).where(table.c.target == target)
        ).one()
        return int(count), oldest

    def pending_subjects(self, connection: Connection, subject_ids: Iterable[str]) -> set[tuple[str, str]]:
        """Return which (target, subject) pairs among `subject_ids` still have to be told."""
        table = self._table
        rows = connection.execute(
            select(table.c.target, table.c.subject_id).where(table.c.subject_id.in_(list(subject_ids)))
        )
        return {(row.target, row.subject_id) for row in rows}


def backoff_ms(failures: int) -> int:
    """Return the wait after `failures` failed tries in a row: doubling from 0.5 s up to 30 s, with full jitter."""
    longest = min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** min(failures, 16))
    return random.randint(FIRST_BACKOFF_MS // 2, longest)  # noqa: S311 - spreads load, guards nothing


class Relay:
    """Tells one target what the inline sender could not: claims, sends, removes or puts back, for ever.

    `send` takes subject ids and answers whether all of them were delivered. While a target fails, the relay
    tries a few rows at a time; the first success wakes all the others.
    """

    def __init__(
        self,
        writer: DatabaseWriter,
        outbox: Outbox,
        *,
        target: str,
        send: Callable[[Sequence[str]], Awaitable[Delivery]],
        batch: int = 256,
    ) -> None:
        self._writer = writer
        self._outbox = outbox
        self._target = target
        self._send = send
        self._batch = batch
        self._failures = 0

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            taken = await self.relay_once()
            if self._failures:
                await asyncio.sleep(min(backoff_ms(self._failures), MAX_PAUSE_MS) / 1000)
            elif taken == 0:
                await asyncio.sleep(IDLE_S)

    async def relay_once(self) -> int:
        """Try one batch; return how many rows were taken."""
        limit = self._batch if self._failures == 0 else 1
        subjects = await self._writer.run(lambda c: self._claim(c, limit))
        if not subjects:
            return 0
        failpoint("relay.after_claim")
        await self._tell(subjects)
        return len(subjects)

    async def _tell(self, subjects: Sequence[str]) -> None:
        delivery = await self._send(subjects)
        failpoint("relay.after_send")
        if delivery.delivered:
            recovered, self._failures = self._failures > 0, 0
            await self._writer.run(lambda c: self._settle(c, subjects, recovered=recovered))
            failpoint("relay.after_mark")
        elif delivery.refused and len(subjects) > 1:
            for subject in subjects:  # one bad row must not hold up the others
                await self._tell([subject])
        else:
            await self._keep(subjects, delivery)

    async def _keep(self, subjects: Sequence[str], delivery: Delivery) -> None:
        """Put `subjects` back; a refused one waits longest and is not woken by the success of others."""
        error = delivery.error or "unknown"
        if delivery.refused:
            error, delay = REFUSED + error, MAX_BACKOFF_MS
            _log.error("outbox.refused", target=self._target, error=error, subject=subjects[0])
        else:
            self._failures += 1
            delay = backoff_ms(self._failures)
            _log.warning(
                "outbox.not_delivered", target=self._target, error=error, rows=len(subjects), retry_ms=delay
            )
        now = epoch_ms()
        await self._writer.run(
            lambda c: self._outbox.put_back(c, self._target, subjects, now=now, delay_ms=delay, error=error)
        )

    def _claim(self, connection: Connection, limit: int) -> list[str]:
        now = epoch_ms()
        count, oldest = self._outbox.pending(connection, self._target)
        OUTBOX_PENDING.labels(self._target).set(count)
        OUTBOX_OLDEST_SECONDS.labels(self._target).set((now - oldest) / 1000 if oldest else 0)
        return self._outbox.claim(connection, self._target, now=now, limit=limit) if count else []

    def _settle(self, connection: Connection, subjects: Collection[str], *, recovered: bool) -> None:
        self._outbox.remove(connection, self._target, subjects)
        if recovered:
            self._outbox.wake(connection, self._target, now=epoch_ms())
