"""Decisions in the database: one commit for a batch, and the questions asked of them later."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, select, tuple_

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.scoring.record import parse_record, scored_transaction
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys, outbox
from common.clients.logs import TARGET as AUDIT
from common.contracts.decisions import Deliveries, DeliveryStatus, ScoredTransaction
from common.outbox import Outbox
from common.tenancy import of_every_tenant, of_tenant

RESTORE_PAGE = 5_000
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
    query = select(decisions.c.record, decisions.c.flagged).where(decisions.c.decision_id == decision_id)
    row = connection.execute(of_tenant(institution_id, query)).one_or_none()
    if row is None:
        return None
    pending = pending_targets(connection, [decision_id]).get(decision_id, frozenset())
    return AlreadySaved(decision_id, "", row.record, row.flagged, pending)


def find_by_transaction(
    connection: Connection, institution_id: str, transaction_id: str
) -> AlreadySaved | None:
    """Return the decision about one transaction of an institution."""
    query = (
        select(idempotency_keys, decisions.c.record, decisions.c.flagged)
        .join(decisions, decisions.c.decision_id == idempotency_keys.c.decision_id)
        .where(idempotency_keys.c.transaction_id == transaction_id)
    )
    row = connection.execute(of_tenant(institution_id, query)).one_or_none()
    if row is None:
        return None
    pending = pending_targets(connection, [row.decision_id]).get(row.decision_id, frozenset())
    return AlreadySaved(row.decision_id, row.body_sha256, row.record, row.flagged, pending)


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
    rows = connection.execute(of_tenant(institution_id, _filtered(query, wanted))).all()
    pending = pending_targets(connection, [row.decision_id for row in rows])
    return [
        AlreadySaved(row.decision_id, "", row.record, row.flagged, pending.get(row.decision_id, frozenset()))
        for row in rows
    ]


def records_of(connection: Connection, decision_ids: Sequence[str]) -> list[bytes]:
    """Return the canonical bytes of some decisions, whoever they belong to; for the relay."""
    query = (
        select(decisions.c.record)
        .where(decisions.c.decision_id.in_(list(decision_ids)))
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
    connection: Connection, institution_id: str, *, sequence: int, since_ms: int
) -> Iterator[bytes]:
    """Yield an institution's records after `sequence` that were made since `since_ms`, in the order observed."""
    position = (-1, "")
    key = tuple_(decisions.c.observed_sequence, decisions.c.decision_id)
    while True:
        query = (
            select(decisions.c.observed_sequence, decisions.c.decision_id, decisions.c.record)
            .where(
                decisions.c.decision_sequence > sequence,
                decisions.c.created_at_ms >= since_ms,
                key > position,
            )
            .order_by(decisions.c.observed_sequence, decisions.c.decision_id)
            .limit(RESTORE_PAGE)
        )
        rows = connection.execute(of_tenant(institution_id, query)).all()
        if not rows:
            return
        for row in rows:
            yield row.record
        position = (rows[-1].observed_sequence, rows[-1].decision_id)


def pending_targets(connection: Connection, decision_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return which targets still have to be told of each decision; one that all were told of is left out."""
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
