"""Decisions in the database: one commit for a batch, and the questions asked of them later."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.clients.logs import TARGET as AUDIT
from ai_service.scoring.record import Draft, parse_record, scored_transaction
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys, outbox
from common.clock import epoch_ms
from common.contracts.decisions import Deliveries, DeliveryStatus, ScoredTransaction
from common.db import insert_ignoring_repeats
from common.outbox import LEASE_MS, Outbox, OutboxEntry

RESTORE_PAGE = 5_000
Told = Mapping[str, Collection[str]]
_outbox = Outbox(outbox)


@dataclass(frozen=True, slots=True)
class Saved:
    """A draft that was saved now: its canonical bytes."""

    draft: Draft
    body: bytes


@dataclass(frozen=True, slots=True)
class AlreadySaved:
    """The transaction was decided before: what was saved then, and which targets are still to be told."""

    decision_id: str
    body_sha256: str
    body: bytes
    flagged: bool
    pending: frozenset[str]

    def scored(self) -> ScoredTransaction:
        """Return the saved answer, with who has been told by now."""
        alert = self._status(ALERT) if self.flagged else DeliveryStatus.NOT_NEEDED
        deliveries = Deliveries(alert=alert, audit=self._status(AUDIT))
        return scored_transaction(parse_record(self.body)["decision"], deliveries)

    def _status(self, target: str) -> DeliveryStatus:
        return DeliveryStatus.PENDING if target in self.pending else DeliveryStatus.DELIVERED


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions of an institution are wanted; None means any. Times are milliseconds since 1970."""

    outcome: str | None = None
    policy_outcome: str | None = None
    risk_level: str | None = None
    customer_id: str | None = None
    transaction_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


def save_batch(connection: Connection, drafts: Sequence[Draft], told: Told) -> list[Saved | AlreadySaved]:
    """Write a batch in the running transaction: keys, decisions, outbox rows; `told` rows go away.

    Answers each draft with what was saved, now or before. Only drafts whose key is new get a sequence number.
    """
    forget_told(connection, told)
    fresh = _insert_keys(connection, drafts)
    numbers = _take_numbers(connection, [draft for draft in drafts if draft.decision_id in fresh])
    saved = {
        draft.decision_id: Saved(draft, draft.numbered(next(numbers[draft.accepted.institution_id])))
        for draft in drafts
        if draft.decision_id in fresh
    }
    _insert_decisions(connection, list(saved.values()))
    repeats = [draft for draft in drafts if draft.decision_id not in fresh]
    earlier = _already_saved(connection, repeats) if repeats else {}
    return [saved.get(draft.decision_id) or earlier[_key(draft)] for draft in drafts]


def forget_told(connection: Connection, told: Told) -> None:
    """Take away the outbox rows of what was delivered inline."""
    for target, subject_ids in told.items():
        _outbox.remove(connection, target, subject_ids)


def find_decision(connection: Connection, institution_id: str, decision_id: str) -> AlreadySaved | None:
    """Return one decision of an institution."""
    row = connection.execute(
        select(decisions.c.record, decisions.c.flagged).where(
            decisions.c.institution_id == institution_id, decisions.c.decision_id == decision_id
        )
    ).one_or_none()
    if row is None:
        return None
    pending = _pending(connection, [decision_id]).get(decision_id, frozenset())
    return AlreadySaved(decision_id, "", row.record, row.flagged, pending)


def list_decisions(
    connection: Connection, institution_id: str, wanted: DecisionFilter, *, before: int | None, limit: int
) -> list[AlreadySaved]:
    """Return up to `limit` decisions of an institution, newest first, with a sequence below `before`."""
    query = (
        select(decisions.c.decision_id, decisions.c.record, decisions.c.flagged)
        .where(decisions.c.institution_id == institution_id)
        .order_by(decisions.c.decision_sequence.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(decisions.c.decision_sequence < before)
    rows = connection.execute(_filtered(query, wanted)).all()
    pending = _pending(connection, [row.decision_id for row in rows])
    return [
        AlreadySaved(row.decision_id, "", row.record, row.flagged, pending.get(row.decision_id, frozenset()))
        for row in rows
    ]


def records_of(connection: Connection, decision_ids: Sequence[str]) -> list[bytes]:
    """Return the canonical bytes of some decisions, whoever they belong to; for the relay."""
    rows = connection.execute(
        select(decisions.c.record)
        .where(decisions.c.decision_id.in_(list(decision_ids)))
        .order_by(decisions.c.institution_id, decisions.c.decision_sequence)
    )
    return [row.record for row in rows]


def last_sequences(connection: Connection) -> dict[str, int]:
    """Return the last decision sequence of every institution."""
    rows = connection.execute(select(decision_sequences.c.institution_id, decision_sequences.c.last))
    return {row.institution_id: row.last for row in rows}


def base_currencies(connection: Connection) -> set[str]:
    """Return the base currencies of the institutions that have decisions."""
    latest = select(decisions.c.record).join(
        decision_sequences,
        (decision_sequences.c.institution_id == decisions.c.institution_id)
        & (decision_sequences.c.last == decisions.c.decision_sequence),
    )
    return {parse_record(body)["institution"]["base_currency"] for body in connection.scalars(latest)}


def records_after(
    connection: Connection, institution_id: str, *, sequence: int, since_ms: int
) -> Iterator[bytes]:
    """Yield an institution's records after `sequence` that were made since `since_ms`, in the order observed."""
    position = (-1, "")
    key = tuple_(decisions.c.observed_sequence, decisions.c.decision_id)
    while True:
        rows = connection.execute(
            select(decisions.c.observed_sequence, decisions.c.decision_id, decisions.c.record)
            .where(
                decisions.c.institution_id == institution_id,
                decisions.c.decision_sequence > sequence,
                decisions.c.created_at_ms >= since_ms,
                key > position,
            )
            .order_by(decisions.c.observed_sequence, decisions.c.decision_id)
            .limit(RESTORE_PAGE)
        ).all()
        if not rows:
            return
        for row in rows:
            yield row.record
        position = (rows[-1].observed_sequence, rows[-1].decision_id)


def _insert_keys(connection: Connection, drafts: Sequence[Draft]) -> set[str]:
    """Insert the idempotency keys and return the decision ids whose key was new."""
    rows = [
        {
            "institution_id": draft.accepted.institution_id,
            "transaction_id": draft.accepted.transaction.transaction_id,
            "body_sha256": draft.body_sha256,
            "decision_id": draft.decision_id,
        }
        for draft in drafts
    ]
    insert = insert_ignoring_repeats(connection, idempotency_keys).returning(idempotency_keys.c.decision_id)
    return set(connection.scalars(insert, rows))


def _take_numbers(connection: Connection, fresh: Sequence[Draft]) -> dict[str, Iterator[int]]:
    """Advance each institution's sequence by its fresh drafts; a rollback takes the numbers back."""
    counts = Counter(draft.accepted.institution_id for draft in fresh)
    numbers = {}
    for institution_id, count in sorted(counts.items()):
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        insert = make(decision_sequences).values(institution_id=institution_id, last=count)
        last = connection.execute(
            insert.on_conflict_do_update(
                index_elements=["institution_id"], set_={"last": decision_sequences.c.last + count}
            ).returning(decision_sequences.c.last)
        ).scalar_one()
        numbers[institution_id] = iter(range(last - count + 1, last + 1))
    return numbers


def _insert_decisions(connection: Connection, saved: Sequence[Saved]) -> None:
    if not saved:
        return
    connection.execute(decisions.insert(), [_row(entry) for entry in saved])
    entries = [OutboxEntry(AUDIT, entry.draft.decision_id) for entry in saved]
    entries += [OutboxEntry(ALERT, entry.draft.decision_id) for entry in saved if entry.draft.flagged]
    _outbox.add(connection, entries, now=epoch_ms(), lease_ms=LEASE_MS)


def _row(entry: Saved) -> dict[str, Any]:
    draft, answer = entry.draft, entry.draft.answer
    return {
        "decision_id": draft.decision_id,
        "institution_id": draft.accepted.institution_id,
        "decision_sequence": answer["decision_sequence"],
        "observed_sequence": draft.observed_sequence,
        "transaction_id": draft.accepted.transaction.transaction_id,
        "customer_id": draft.accepted.transaction.customer_id,
        "event_time_ms": draft.accepted.event_time_us // 1000,
        "created_at_ms": int(draft.created_at.timestamp() * 1000),
        "outcome": answer["outcome"],
        "policy_outcome": answer["policy_outcome"],
        "risk_level": answer["risk_level"],
        "flagged": draft.flagged,
        "schema_version": answer["schema_version"],
        "record": entry.body,
    }


def _already_saved(connection: Connection, repeats: Sequence[Draft]) -> dict[tuple[str, str], AlreadySaved]:
    keys = idempotency_keys
    rows = connection.execute(
        select(keys, decisions.c.record, decisions.c.flagged)
        .join(decisions, decisions.c.decision_id == keys.c.decision_id)
        .where(tuple_(keys.c.institution_id, keys.c.transaction_id).in_([_key(draft) for draft in repeats]))
    ).all()
    pending = _pending(connection, [row.decision_id for row in rows])
    return {
        (row.institution_id, row.transaction_id): AlreadySaved(
            row.decision_id,
            row.body_sha256,
            row.record,
            row.flagged,
            pending.get(row.decision_id, frozenset()),
        )
        for row in rows
    }


def _key(draft: Draft) -> tuple[str, str]:
    return draft.accepted.institution_id, draft.accepted.transaction.transaction_id


def _pending(connection: Connection, decision_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for target, decision_id in _outbox.pending_subjects(connection, decision_ids):
        found[decision_id] = found.get(decision_id, frozenset()) | {target}
    return found


def _filtered(query: Select[Any], wanted: DecisionFilter) -> Select[Any]:
    for column in ("outcome", "policy_outcome", "risk_level", "customer_id", "transaction_id"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(decisions.c[column] == value)
    if wanted.since_ms is not None:
        query = query.where(decisions.c.created_at_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(decisions.c.created_at_ms < wanted.until_ms)
    return query
