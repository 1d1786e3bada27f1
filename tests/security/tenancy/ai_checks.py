"""ai_service: no question about decisions is answered with those of another institution."""

from sqlalchemy import Connection, insert

from ai_service.bootstrap import MIGRATIONS
from ai_service.scoring import repository, velocity_repository
from ai_service.scoring.repository import DecisionFilter
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys
from ai_service.scoring.velocity_repository import Span
from ai_service.usage import repository as usage_repository
from tests.security.tenancy.worlds import BOTH, A, B, World, on_connection


def fill(connection: Connection) -> None:
    for place, institution in enumerate(BOTH, start=1):
        name = institution.institution_id
        connection.execute(insert(decision_sequences).values(institution_id=name, last=1))
        connection.execute(
            insert(decisions).values(
                decision_id=f"dec_{name}",
                institution_id=name,
                decision_sequence=1,
                observed_sequence=place,
                transaction_id="tx-1",
                customer_id="customer-1",
                event_time_ms=1,
                created_at_ms=1,
                outcome="approve",
                policy_outcome="approve",
                risk_level="low",
                flagged=False,
                schema_version=1,
                record=name.encode(),
            )
        )
        connection.execute(
            insert(idempotency_keys).values(
                institution_id=name, transaction_id="tx-1", body_sha256="0" * 64, decision_id=f"dec_{name}"
            )
        )


def one_decision(connection: Connection) -> None:
    for asking, other in ((A, B), (B, A)):
        mine = repository.find_decision(connection, asking.institution_id, f"dec_{asking.institution_id}")
        theirs = repository.find_decision(connection, asking.institution_id, f"dec_{other.institution_id}")

        assert mine is not None
        assert mine.body == asking.institution_id.encode()
        assert theirs is None


def one_decision_by_its_transaction(connection: Connection) -> None:
    for asking in BOTH:
        mine = repository.find_by_transaction(connection, asking.institution_id, "tx-1")
        none = repository.find_by_transaction(connection, asking.institution_id, "tx-2")

        assert mine is not None
        assert mine.body == asking.institution_id.encode()
        assert none is None


def pages_of_decisions(connection: Connection) -> None:
    for wanted in (DecisionFilter(), DecisionFilter(transaction_id="tx-1", customer_id="customer-1")):
        found = repository.list_decisions(connection, B.institution_id, wanted, before=9, limit=9)

        assert [each.body for each in found] == [B.institution_id.encode()]


def records_for_velocity(connection: Connection) -> None:
    for asking in BOTH:
        found = repository.records_after(connection, asking.institution_id, sequence=0, since_ms=0)

        assert list(found) == [asking.institution_id.encode()]


def where_velocity_begins(connection: Connection) -> None:
    found = [
        repository.first_observed(connection, each.institution_id, sequence=0, since_ms=0) for each in BOTH
    ]

    assert found == [1, 2]


def decisions_to_rebuild_velocity(connection: Connection) -> None:
    for asking in BOTH:
        span = Span(asking.institution_id, after=0, until=9, since_ms=0)
        found = velocity_repository.observed_page(connection, span, after=None)

        assert [each.body for each in found] == [asking.institution_id.encode()]


def numbers_of_velocity(connection: Connection) -> None:
    for question in (
        velocity_repository.last_decision,
        velocity_repository.last_observed,
        velocity_repository.lately_observed,
    ):
        assert question(connection, A.institution_id) == 1
        assert question(connection, "ins_nobody") == 0


def decisions_that_velocity_counts_later(connection: Connection) -> None:
    velocity_repository.note_uncounted(connection, A.institution_id, ["tx-1"])

    assert velocity_repository.last_observed(connection, B.institution_id) == 2
    mine = velocity_repository.unobserved_page(connection, A.institution_id, after=0)
    assert [each.body for each in mine] == [A.institution_id.encode()]
    assert velocity_repository.unobserved_page(connection, B.institution_id, after=0) == []

    velocity_repository.note_observed(connection, B.institution_id, {1: 7})
    assert velocity_repository.unobserved_page(connection, A.institution_id, after=0) == mine

    velocity_repository.note_observed(connection, A.institution_id, {1: 7})
    assert velocity_repository.last_observed(connection, A.institution_id) == 7
    assert velocity_repository.last_observed(connection, B.institution_id) == 2


def decisions_taken_back(connection: Connection) -> None:
    for institution in BOTH:
        usage_repository.add(connection, {(institution.institution_id, "2026-11"): 5})

    usage_repository.take_back(connection, (B.institution_id, "2026-11"), 2)

    left = usage_repository.used_since(connection, "2026-11")
    assert left == {(A.institution_id, "2026-11"): 5, (B.institution_id, "2026-11"): 3}


WORLD = World(
    MIGRATIONS,
    on_connection(fill),
    {
        check.__name__: on_connection(check)
        for check in (
            one_decision,
            one_decision_by_its_transaction,
            pages_of_decisions,
            records_for_velocity,
            where_velocity_begins,
            decisions_to_rebuild_velocity,
            numbers_of_velocity,
            decisions_that_velocity_counts_later,
            decisions_taken_back,
        )
    },
)
