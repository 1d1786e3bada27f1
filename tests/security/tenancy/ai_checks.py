"""ai_service: no question about decisions is answered with those of another institution."""

from sqlalchemy import Connection, insert

from ai_service.bootstrap import MIGRATIONS
from ai_service.scoring import repository
from ai_service.scoring.repository import DecisionFilter
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys
from tests.security.tenancy.worlds import BOTH, A, B, World, on_connection


def fill(connection: Connection) -> None:
    for institution in BOTH:
        name = institution.institution_id
        connection.execute(insert(decision_sequences).values(institution_id=name, last=1))
        connection.execute(
            insert(decisions).values(
                decision_id=f"dec_{name}",
                institution_id=name,
                decision_sequence=1,
                observed_sequence=1,
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
    found = repository.records_after(connection, B.institution_id, sequence=0, since_ms=0)

    assert list(found) == [B.institution_id.encode()]


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
        )
    },
)
