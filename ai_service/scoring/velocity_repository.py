"""What the shared velocity state asks of the decisions: which to count again, and which are not counted yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select, tuple_, update

from ai_service.scoring.tables import decision_sequences, decisions
from common.tenancy import of_every_tenant, of_tenant

PAGE = 500
LATELY = 100_000
"""How many decisions ago one was made, at most, whose counting is still awaited: transaction ids have no index here."""


@dataclass(frozen=True)
class Span:
    """Decisions of an institution after one decision sequence, up to and including another, made since a moment."""

    institution_id: str
    after: int
    until: int
    since_ms: int


@dataclass(frozen=True)
class ObservedRecord:
    """A decision's place in the order in which its institution's transactions were observed, and its record."""

    observed_sequence: int
    decision_id: str
    body: bytes


@dataclass(frozen=True)
class UnobservedRecord:
    """A decision that velocity has not counted yet."""

    decision_sequence: int
    body: bytes


def last_decision(connection: Connection, institution_id: str) -> int:
    """Return the last decision sequence of an institution, 0 when it has none."""
    query = select(decision_sequences.c.last)
    return connection.scalar(of_tenant(institution_id, query)) or 0


def last_observed(connection: Connection, institution_id: str) -> int:
    """Return the highest observed sequence of an institution, 0 when it has none."""
    query = select(func.max(decisions.c.observed_sequence))
    return connection.scalar(of_tenant(institution_id, query)) or 0


def lately_observed(connection: Connection, institution_id: str) -> int:
    """Return the highest observed sequence among the last decisions of an institution, 0 when there is none."""
    latest = of_tenant(
        institution_id,
        select(decisions.c.observed_sequence).order_by(decisions.c.decision_sequence.desc()).limit(PAGE),
    )
    return max((each for each in connection.scalars(latest) if each is not None), default=0)


def observed_page(
    connection: Connection, span: Span, *, after: ObservedRecord | None
) -> list[ObservedRecord]:
    """Return the next decisions of `span` in the order observed; `after` is the last one of the page before."""
    key = tuple_(decisions.c.observed_sequence, decisions.c.decision_id)
    position = (-1, "") if after is None else (after.observed_sequence, after.decision_id)
    query = (
        select(decisions.c.observed_sequence, decisions.c.decision_id, decisions.c.record)
        .where(
            decisions.c.decision_sequence > span.after,
            decisions.c.decision_sequence <= span.until,
            decisions.c.created_at_ms >= span.since_ms,
            key > position,
        )
        .order_by(decisions.c.observed_sequence, decisions.c.decision_id)
        .limit(PAGE)
    )
    rows = connection.execute(of_tenant(span.institution_id, query))
    return [ObservedRecord(row.observed_sequence, row.decision_id, row.record) for row in rows]


def institutions_not_observed(connection: Connection) -> list[str]:
    """Return the institutions that have decisions which velocity has not counted."""
    query = select(decisions.c.institution_id).where(decisions.c.observed_sequence.is_(None)).distinct()
    return list(connection.scalars(of_every_tenant(query, "velocity catches up for all")))


def unobserved_page(connection: Connection, institution_id: str, *, after: int) -> list[UnobservedRecord]:
    """Return the next decisions that are not counted, in the order committed."""
    query = (
        select(decisions.c.decision_sequence, decisions.c.record)
        .where(decisions.c.observed_sequence.is_(None), decisions.c.decision_sequence > after)
        .order_by(decisions.c.decision_sequence)
        .limit(PAGE)
    )
    rows = connection.execute(of_tenant(institution_id, query))
    return [UnobservedRecord(row.decision_sequence, row.record) for row in rows]


def note_observed(connection: Connection, institution_id: str, observed: Mapping[int, int]) -> None:
    """Give decisions, by decision sequence, the number under which they were counted at last."""
    if not observed:
        return
    numbering = (
        update(decisions)
        .where(
            decisions.c.decision_sequence == bindparam("decision"), decisions.c.observed_sequence.is_(None)
        )
        .values(observed_sequence=bindparam("observed"))
    )
    connection.execute(
        of_tenant(institution_id, numbering),
        [{"decision": decision, "observed": number} for decision, number in sorted(observed.items())],
    )


def note_uncounted(connection: Connection, institution_id: str, transaction_ids: Sequence[str]) -> None:
    """Take the number from decisions that were counted in a state which is no longer in use; they are counted again."""
    since = last_decision(connection, institution_id) - LATELY
    forgetting = (
        update(decisions)
        .where(decisions.c.decision_sequence > since, decisions.c.transaction_id.in_(list(transaction_ids)))
        .values(observed_sequence=None)
    )
    connection.execute(of_tenant(institution_id, forgetting))
