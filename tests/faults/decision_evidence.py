"""Collects what ai_service saved: decisions with their idempotency keys, and keys without a decision."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from ai_service.scoring.tables import decisions, idempotency_keys

_OF_ONE_TRANSACTION = (idempotency_keys.c.institution_id == decisions.c.institution_id) & (
    idempotency_keys.c.transaction_id == decisions.c.transaction_id
)


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the decisions, with its idempotency key."""

    decision_id: str
    institution_id: str
    transaction_id: str
    customer_id: str
    sequence: int
    event_time_ms: int
    created_at_ms: int
    outcome: str
    policy_outcome: str
    risk_level: str
    flagged: bool
    schema_version: int
    body_sha256: str
    key_decision_id: str | None
    key_created_at_ms: int | None
    record: bytes

    @property
    def alert_id(self) -> str:
        """Return the id of the alert that a flagged decision raises."""
        return "alr_" + self.decision_id.removeprefix("dec_")


@dataclass(frozen=True, slots=True)
class OrphanKey:
    """An idempotency key whose transaction has no decision."""

    institution_id: str
    transaction_id: str
    decision_id: str


def saved_decisions(connection: Connection, institution_id: str) -> list[Decision]:
    """Return the decisions of an institution; of all where none is named."""
    keys = idempotency_keys.c
    query = select(
        decisions,
        keys.body_sha256,
        keys.decision_id.label("key_decision_id"),
        keys.created_at_ms.label("key_created_at_ms"),
    ).outerjoin_from(decisions, idempotency_keys, _OF_ONE_TRANSACTION)
    if institution_id:
        query = query.where(decisions.c.institution_id == institution_id)
    return [
        Decision(
            decision_id=row.decision_id,
            institution_id=row.institution_id,
            transaction_id=row.transaction_id,
            customer_id=row.customer_id,
            sequence=row.decision_sequence,
            event_time_ms=row.event_time_ms,
            created_at_ms=row.created_at_ms,
            outcome=row.outcome,
            policy_outcome=row.policy_outcome,
            risk_level=row.risk_level,
            flagged=bool(row.flagged),
            schema_version=row.schema_version,
            body_sha256=row.body_sha256 or "",
            key_decision_id=row.key_decision_id,
            key_created_at_ms=row.key_created_at_ms,
            record=bytes(row.record),
        )
        for row in connection.execute(query)
    ]


def orphan_keys(connection: Connection, institution_id: str) -> list[OrphanKey]:
    """Return the keys without a decision of an institution; of all where none is named."""
    keys = idempotency_keys.c
    query = (
        select(keys.institution_id, keys.transaction_id, keys.decision_id)
        .outerjoin_from(idempotency_keys, decisions, _OF_ONE_TRANSACTION)
        .where(decisions.c.decision_id.is_(None))
    )
    if institution_id:
        query = query.where(keys.institution_id == institution_id)
    return [OrphanKey(*row) for row in connection.execute(query)]
