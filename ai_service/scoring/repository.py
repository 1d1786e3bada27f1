"""Decisions in the database: one commit for a batch, and the questions asked of them later."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, tuple_

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.scoring.record import parse_record, scored_transaction
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys, outbox
from common.clients.logs import TARGET as AUDIT
from common.contracts.decisions import Deliveries, DeliveryStatus, ScoredTransaction
from common.ids import made_at_ms
from common.outbox import Outbox
from common.tenancy import of_every_tenant, of_tenant

RESTORE_PAGE = 5_000
CLOCK_SLACK_MS = (
    3_600_000  # between the time in an id and that of its decision: microseconds, unless a clock was set
)
ANY_TIME = (0, 2**63 - 1)
_outbox = Outbox(outbox)


@dataclass(frozen=True, slots=True)
class AlreadySaved:
    """The transaction was decided before: what was saved then, and which targets are still to be told."""

    decision_id: str
    body_sha256: str
    body: bytes
    flagged: bool
    pending: frozenset[str]

    @property
    def answer(self) -> dict[str, Any]:
        """Return what was answered, without who has been told."""
        found: dict[str, Any] = parse_record(self.body)["decision"]
        return found

    @property
    def deliveries(self) -> Deliveries:
        """Return who has been told by now."""
        alert = self._status(ALERT) if self.flagged else DeliveryStatus.NOT_NEEDED
        return Deliveries(alert=alert, audit=self._status(AUDIT))

    def without(self, told: Collection[tuple[str, str]]) -> "AlreadySaved":
        """Take (target, decision id) pairs that were told lately out of what is pending."""
        pending = frozenset(target for target in self.pending if (target, self.decision_id) not in told)
        return replace(self, pending=pending)

    def scored(self) -> ScoredTransaction:
        """Return the saved answer, with who has been told by now."""
        return scored_transaction(self.answer, self.deliveries)

    def _status(self, target: str) -> DeliveryStatus:
        return DeliveryStatus.PENDING if target in self.pending else DeliveryStatus.DELIVERED


def made_between(times_ms: Iterable[int | None]) -> tuple[int, int]:
    """Return the first and last `created_at_ms` of decisions made at about `times_ms`; None is not known.

    With it a look-up by id is one in the partitions of that time, where there are partitions.
    """
    times = list(times_ms)
    known = [time for time in times if time is not None]
    if not known or len(known) < len(times):
        return ANY_TIME
    return min(known) - CLOCK_SLACK_MS, max(known) + CLOCK_SLACK_MS


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


def find_decision(connection: Connection, institution_id: str, decision_id: str) -> AlreadySaved | None:
    """Return one decision of an institution."""
    made = made_at_ms(decision_id)
    found = _find(connection, institution_id, decision_id, made)
    # an id that says another time than its decision is still found
    return found if found or made is None else _find(connection, institution_id, decision_id, None)


def find_by_transaction(
    connection: Connection, institution_id: str, transaction_id: str
) -> AlreadySaved | None:
    """Return the decision about one transaction of an institution."""
    key = _key_of(connection, institution_id, transaction_id)
    if key is None:
        return None
    found = _find(connection, institution_id, key.decision_id, key.created_at_ms)
    return None if found is None else replace(found, body_sha256=key.body_sha256)


def list_decisions(
    connection: Connection, institution_id: str, wanted: DecisionFilter, *, before: int | None, limit: int
) -> list[AlreadySaved]:
    """Return up to `limit` decisions of an institution, newest first, with a sequence below `before`."""
    query = (
        select(decisions.c.decision_id, decisions.c.record, decisions.c.flagged)
        .order_by(decisions.c.decision_sequence.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(decisions.c.decision_sequence < before)
    if wanted.transaction_id is not None:
        key = _key_of(connection, institution_id, wanted.transaction_id)
        if key is None:
            return []
        query = query.where(*_is_decision(key.decision_id, key.created_at_ms))
    rows = connection.execute(of_tenant(institution_id, _filtered(query, wanted))).all()
    return _with_pending(connection, rows)


def records_of(connection: Connection, decision_ids: Sequence[str]) -> list[bytes]:
    """Return the canonical bytes of some decisions, whoever they belong to; for the relay."""
    found = _records(connection, decision_ids, made_between(map(made_at_ms, decision_ids)))
    # an id that says another time than its decision is still found
    return found if len(found) == len(set(decision_ids)) else _records(connection, decision_ids, ANY_TIME)


def _records(connection: Connection, decision_ids: Sequence[str], between: tuple[int, int]) -> list[bytes]:
    query = (
        select(decisions.c.record)
        .where(decisions.c.decision_id.in_(list(decision_ids)), decisions.c.created_at_ms.between(*between))
        .order_by(decisions.c.institution_id, decisions.c.decision_sequence)
    )
    rows = connection.execute(of_every_tenant(query, "the relay tells the decisions of all"))
    return [row.record for row in rows]


def last_sequences(connection: Connection) -> dict[str, int]:
    """Return the last decision sequence of every institution."""
    query = select(decision_sequences.c.institution_id, decision_sequences.c.last)
    rows = connection.execute(of_every_tenant(query, "velocity is restored and kept for all"))
    return {row.institution_id: row.last for row in rows}


def base_currencies(connection: Connection) -> set[str]:
    """Return the base currencies of the institutions that have decisions."""
    latest = select(decisions.c.record).join(
        decision_sequences,
        (decision_sequences.c.institution_id == decisions.c.institution_id)
        & (decision_sequences.c.last == decisions.c.decision_sequence),
    )
    bodies = connection.scalars(of_every_tenant(latest, "rates are loaded for the currencies of all"))
    return {parse_record(body)["institution"]["base_currency"] for body in bodies}


def records_after(
    connection: Connection, institution_id: str, *, sequence: int, since_ms: int, page: int = RESTORE_PAGE
) -> Iterator[bytes]:
    """Yield an institution's records after `sequence` that were made since `since_ms`, in the order observed."""
    new = (decisions.c.decision_sequence > sequence, decisions.c.created_at_ms >= since_ms)
    first = first_observed(connection, institution_id, sequence=sequence, since_ms=since_ms)
    if first is None:
        return
    position = (first, "")
    key = tuple_(decisions.c.observed_sequence, decisions.c.decision_id)
    while True:
        query = (
            select(decisions.c.observed_sequence, decisions.c.decision_id, decisions.c.record)
            .where(*new, key > position)
            .order_by(decisions.c.observed_sequence, decisions.c.decision_id)
            .limit(page)
        )
        rows = connection.execute(of_tenant(institution_id, query)).all()
        if not rows:
            return
        for row in rows:
            yield row.record
        position = (rows[-1].observed_sequence, rows[-1].decision_id)


def first_observed(
    connection: Connection, institution_id: str, *, sequence: int, since_ms: int
) -> int | None:
    """Return the first place in the order observed of what `records_after` yields; None when that is nothing.

    It is found by number: a search in the order observed would begin with the very first decision.
    """
    query = select(func.min(decisions.c.observed_sequence)).where(
        decisions.c.decision_sequence > sequence, decisions.c.created_at_ms >= since_ms
    )
    found: int | None = connection.scalar(of_tenant(institution_id, query))
    return found


def pending_targets(connection: Connection, decision_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return which targets still have to be told of each decision; one that all were told of is left out."""
    found: dict[str, frozenset[str]] = {}
    for target, decision_id in _outbox.pending_subjects(connection, decision_ids, targets=(ALERT, AUDIT)):
        found[decision_id] = found.get(decision_id, frozenset()) | {target}
    return found


def _key_of(connection: Connection, institution_id: str, transaction_id: str) -> Row[Any] | None:
    """Return the key under which a transaction was decided: by it alone a decision is found without a search."""
    query = select(idempotency_keys).where(idempotency_keys.c.transaction_id == transaction_id)
    return connection.execute(of_tenant(institution_id, query)).one_or_none()


def _find(
    connection: Connection, institution_id: str, decision_id: str, time_ms: int | None
) -> AlreadySaved | None:
    query = select(decisions.c.decision_id, decisions.c.record, decisions.c.flagged).where(
        *_is_decision(decision_id, time_ms)
    )
    row = connection.execute(of_tenant(institution_id, query)).one_or_none()
    return None if row is None else _with_pending(connection, [row])[0]


def _is_decision(decision_id: str, time_ms: int | None) -> tuple[ColumnElement[bool], ...]:
    return (
        decisions.c.decision_id == decision_id,
        decisions.c.created_at_ms.between(*made_between([time_ms])),
    )


def _with_pending(connection: Connection, rows: Sequence[Row[str, bytes, bool]]) -> list[AlreadySaved]:
    """Return decisions with the targets that still have to be told of them."""
    pending = pending_targets(connection, [row.decision_id for row in rows])
    return [
        AlreadySaved(row.decision_id, "", row.record, row.flagged, pending.get(row.decision_id, frozenset()))
        for row in rows
    ]


def _filtered(query: Select[Any], wanted: DecisionFilter) -> Select[Any]:
    for column in ("outcome", "policy_outcome", "risk_level", "customer_id"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(decisions.c[column] == value)
    if wanted.since_ms is not None:
        query = query.where(decisions.c.created_at_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(decisions.c.created_at_ms < wanted.until_ms)
    return query
