"""A process of the release before goes on beside one of this release: its statements work on the schema of today.

The tables are frozen here as they were at migration 0003. What a new migration breaks here is for a later release, when
nobody runs the statements any more (docs/decisions/0015-migrations-expand-contract.md).
"""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import postgresql, sqlite

from ai_service.scoring import repository
from ai_service.scoring.repository import DecisionFilter
from common.tenancy import EVERY_TENANT
from tests.decision_drafts import make_draft
from tests.factories import SANDBOX
from tests.integration.ai_service.conftest import Kept

FROZEN = sa.MetaData()
TEXT, NUMBER = sa.String, sa.BigInteger
DECISIONS = sa.Table(
    "decisions",
    FROZEN,
    sa.Column("decision_id", TEXT),
    sa.Column("institution_id", TEXT),
    sa.Column("decision_sequence", NUMBER),
    sa.Column("observed_sequence", NUMBER),
    sa.Column("transaction_id", TEXT),
    sa.Column("customer_id", TEXT),
    sa.Column("event_time_ms", NUMBER),
    sa.Column("created_at_ms", NUMBER),
    sa.Column("outcome", TEXT),
    sa.Column("policy_outcome", TEXT),
    sa.Column("risk_level", TEXT),
    sa.Column("flagged", sa.Boolean),
    sa.Column("schema_version", sa.Integer),
    sa.Column("record", sa.LargeBinary),
)
KEYS = sa.Table(
    "idempotency_keys",
    FROZEN,
    *(sa.Column(name, TEXT) for name in ("institution_id", "transaction_id", "body_sha256", "decision_id")),
)
SEQUENCES = sa.Table(
    "decision_sequences", FROZEN, sa.Column("institution_id", TEXT), sa.Column("last", NUMBER)
)
OUTBOX = sa.Table(
    "outbox",
    FROZEN,
    sa.Column("target", TEXT),
    sa.Column("subject_id", TEXT),
    sa.Column("attempts", sa.Integer),
    sa.Column("due_at", NUMBER),
    sa.Column("created_at", NUMBER),
    sa.Column("last_error", TEXT),
)
USAGE = sa.Table(
    "usage",
    FROZEN,
    sa.Column("institution_id", TEXT),
    sa.Column("month", TEXT),
    sa.Column("decisions", NUMBER),
)
INSTITUTION = SANDBOX.institution_id
DECISION_ID = "dec_01kb0d2h000000000000000001"
CREATED_AT_MS = 1_764_547_200_000
DECISION: dict[str, Any] = {
    "decision_id": DECISION_ID,
    "institution_id": INSTITUTION,
    "decision_sequence": 1,
    "observed_sequence": 1,
    "transaction_id": "tx-old",
    "customer_id": "customer-1",
    "event_time_ms": 1,
    "created_at_ms": CREATED_AT_MS,
    "outcome": "approve",
    "policy_outcome": "approve",
    "risk_level": "low",
    "flagged": False,
    "schema_version": 1,
    "record": b"{}",
}
KEY = {
    "institution_id": INSTITUTION,
    "transaction_id": "tx-old",
    "body_sha256": "0" * 64,
    "decision_id": DECISION_ID,
}


@pytest.fixture
def old(engine: Engine) -> Iterator[Connection]:
    """A connection of a process of the release before, in one transaction as it commits a batch."""
    with engine.begin() as connection:
        connection.execution_options(**{EVERY_TENANT: "a test runs old statements"})
        yield connection


def made(connection: Connection, table: sa.Table) -> Any:  # noqa: ANN401 - an INSERT of either engine
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


def commit_as_before(connection: Connection) -> list[int]:
    """Run what a commit ran, one statement after another; return the numbers it was given."""
    connection.execute(made(connection, KEYS).values([KEY]).on_conflict_do_nothing())
    advance = made(connection, SEQUENCES).values(institution_id=INSTITUTION, last=1)
    number = connection.scalar(
        advance.on_conflict_do_update(
            index_elements=["institution_id"], set_={"last": SEQUENCES.c.last + advance.excluded.last}
        ).returning(SEQUENCES.c.last)
    )
    connection.execute(made(connection, DECISIONS).values([{**DECISION, "decision_sequence": number}]))
    row = {"attempts": 0, "due_at": 1, "created_at": 1, "last_error": None}
    connection.execute(
        made(connection, OUTBOX).values([{"target": "audit", "subject_id": DECISION_ID, **row}])
    )
    count = made(connection, USAGE).values(institution_id=INSTITUTION, month="2026-11", decisions=1)
    used = connection.scalar(
        count.on_conflict_do_update(
            index_elements=["institution_id", "month"],
            set_={"decisions": USAGE.c.decisions + count.excluded.decisions},
        ).returning(USAGE.c.decisions)
    )
    return [number or 0, used or 0]


class TestStatementsOfTheReleaseBefore:
    def test_commit_a_batch(self, old: Connection) -> None:
        assert commit_as_before(old) == [1, 1]

    def test_find_what_they_wrote(self, old: Connection) -> None:
        commit_as_before(old)

        by_id = sa.select(DECISIONS.c.record).where(
            DECISIONS.c.decision_id == DECISION_ID, DECISIONS.c.institution_id == INSTITUTION
        )
        by_transaction = (
            sa.select(KEYS, DECISIONS.c.record)
            .join(DECISIONS, DECISIONS.c.decision_id == KEYS.c.decision_id)
            .where(KEYS.c.transaction_id == "tx-old", KEYS.c.institution_id == INSTITUTION)
        )
        newest = (
            sa.select(DECISIONS.c.decision_id)
            .where(DECISIONS.c.institution_id == INSTITUTION)
            .order_by(DECISIONS.c.decision_sequence.desc())
            .limit(10)
        )

        assert old.scalar(by_id) == b"{}"
        assert old.execute(by_transaction).one().record == b"{}"
        assert old.scalars(newest).all() == [DECISION_ID]

    def test_take_away_what_was_told(self, old: Connection) -> None:
        commit_as_before(old)

        told = sa.delete(OUTBOX).where(OUTBOX.c.target == "audit", OUTBOX.c.subject_id.in_([DECISION_ID]))

        assert old.execute(told).rowcount == 1


class TestBothReleases:
    async def test_read_and_number_on_what_the_other_wrote(self, kept: Kept) -> None:
        with kept.engine.begin() as old:
            old.execution_options(**{EVERY_TENANT: "a test runs old statements"})
            commit_as_before(old)

        saved = await kept.store.save([make_draft("tx-new")], {}, ())

        with kept.engine.connect() as connection:
            page = repository.list_decisions(connection, INSTITUTION, DecisionFilter(), before=None, limit=9)
            found = repository.find_by_transaction(connection, INSTITUTION, "tx-old")
            # its id says another time than its row
            by_id = getattr(repository.find_decision(connection, INSTITUTION, DECISION_ID), "body", None)
            (found_by_relay,) = repository.records_of(connection, [DECISION_ID])
            by_filter = repository.list_decisions(
                connection, INSTITUTION, DecisionFilter(transaction_id="tx-old"), before=None, limit=9
            )
        assert found is not None
        assert by_id == found_by_relay == b"{}"
        assert found.decision_id == DECISION_ID
        assert [each.decision_id for each in by_filter] == [DECISION_ID]
        assert len(page) == 2
        assert dict(saved.usage.totals).popitem()[1] >= 1
        with kept.engine.connect() as old:
            old.execution_options(**{EVERY_TENANT: "a test runs old statements"})
            assert old.scalar(sa.select(SEQUENCES.c.last)) == 2
