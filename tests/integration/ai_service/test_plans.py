"""How the databases find what they are asked for: by an index, in the months that matter, never by reading a table."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, insert

from ai_service.bootstrap import MIGRATIONS
from ai_service.clients.alerts import TARGET as ALERT
from ai_service.scoring import postgres_statements as statements
from ai_service.scoring import repository
from ai_service.scoring.repository import DecisionFilter
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys, outbox
from ai_service.usage import repository as usage_repository
from ai_service.usage.tables import usage
from common import ids
from common.clients.logs import TARGET as AUDIT
from common.db import migrate, writing_engine
from common.db_connections import is_sqlite
from common.ids import new_id
from common.outbox import Outbox
from common.postgres.commits import open_group_commits
from common.postgres.partitions import Month, MonthlyPartitions
from common.postgres.statements import transposed
from common.row_security import ENTERING
from common.tenancy import EVERY_TENANT
from tests.postgres import PostgresServer

INSTITUTIONS, CUSTOMERS, EACH_MONTH = 12, 40, 240
MONTHS = (Month(2026, 9), Month(2026, 10), Month(2026, 11))
NOW_MS = MONTHS[-1].begin_ms + 1_000_000_000
ASKING = "ins_05"
OF_OCTOBER = EACH_MONTH + 20  # the number of a decision in the middle of that month
OUTBOX = Outbox(outbox)
ANALYSE = "ANALYZE"
FILLED = {
    "decisions",
    *(f"decisions_{month.year}_{month.month:02}" for month in MONTHS),
    "outbox",
    "idempotency_keys",
    "usage",
}


@dataclass(frozen=True)
class Filled:
    """A database of three months, and one of its decisions of October."""

    url: str
    engine: Engine
    decision_id: str

    @property
    def is_partitioned(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    def plans(self, ask: Callable[[Connection], object]) -> list["Plan"]:
        """Return how each statement of `ask` that reads or changes rows is run, for whom its transaction runs then."""
        found: list[Plan] = []

        def note(
            connection: Connection,
            _cursor: object,
            text: str,
            values: object,
            context: Any,  # noqa: ANN401 - an execution context
            _many: bool,  # noqa: FBT001 - what SQLAlchemy calls a listener with
        ) -> None:
            # it comes after the listener that says for whom: the policies are those of this statement
            if context.compiled.statement is not ENTERING:
                found.append(self._plan(connection, text, values))

        with self.engine.connect() as connection:
            connection.execution_options(**{EVERY_TENANT: "a test asks for all"})
            event.listen(self.engine, "before_cursor_execute", note)
            try:
                ask(connection)
            finally:
                event.remove(self.engine, "before_cursor_execute", note)
            assert found
            return found

    def _plan(self, connection: Connection, text: str, values: Any) -> "Plan":  # noqa: ANN401
        cursor = connection.connection.cursor()
        if not self.is_partitioned:
            cursor.execute("EXPLAIN QUERY PLAN " + text, values)
            return Plan.of_sqlite([row[3] for row in cursor.fetchall()])
        cursor.execute("EXPLAIN (FORMAT JSON) " + text, values)
        (found,) = cursor.fetchall()
        return Plan.of_postgres(found[0])


@dataclass(frozen=True)
class Plan:
    """The tables that are read from one end to the other, all that are touched, the indexes, and whether rows are sorted."""

    scanned: frozenset[str]
    touched: frozenset[str]
    indexes: frozenset[str]
    is_sorted: bool

    @classmethod
    def of_sqlite(cls, steps: list[str]) -> "Plan":
        words = [step.split() for step in steps]
        return cls(
            scanned=frozenset(
                each[1] for each in words if each[0] == "SCAN" and each[1] not in {"due", "anon_1"}
            ),
            touched=frozenset(each[1] for each in words if each[0] in {"SCAN", "SEARCH"}),
            indexes=frozenset(each[each.index("INDEX") + 1] for each in words if "INDEX" in each),
            is_sorted=any("ORDER BY" in step for step in steps),
        )

    @classmethod
    def of_postgres(cls, explained: list[Any]) -> "Plan":
        nodes = list(_nodes(explained[0]["Plan"]))
        return cls(
            scanned=frozenset(each["Relation Name"] for each in nodes if each["Node Type"] == "Seq Scan"),
            touched=frozenset(each["Relation Name"] for each in nodes if "Relation Name" in each),
            indexes=frozenset(each["Index Name"] for each in nodes if "Index Name" in each),
            is_sorted=any(
                below.get("Relation Name") in FILLED
                for each in nodes
                if "Sort" in each["Node Type"]
                for below in _nodes(each)
            ),
        )

    @property
    def months(self) -> set[str]:
        """The partitions of decisions that are touched."""
        return {each.removeprefix("decisions_") for each in self.touched if each.startswith("decisions_2")}


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A database of each engine that is large enough for its planner to mind."""
    if request.param == "sqlite":
        yield from _filled(f"sqlite:///{tmp_path_factory.mktemp('plans')}/ai.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = new_id("plans")
    server.create_database(name)
    yield from _filled(server.url(name))
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _filled(url: str) -> Iterator[Filled]:
    migrate(url, migrations=MIGRATIONS)
    engine = writing_engine(url)
    rows = list(_rows())
    with engine.begin() as connection:
        connection.execution_options(**{EVERY_TENANT: "a test fills for all"})
        if not is_sqlite(url):
            for month in MONTHS:
                MonthlyPartitions(decisions, "created_at_ms").make_ahead(connection, now_ms=month.begin_ms)
        _fill(connection, rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(ANALYSE)
    decision_id = next(
        row["decision_id"]
        for row in rows
        if (row["institution_id"], row["decision_sequence"]) == (ASKING, OF_OCTOBER)
    )
    yield Filled(url, engine, decision_id)
    engine.dispose()


def _fill(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(insert(decisions), rows)
    keys = [column.name for column in idempotency_keys.c]
    digests = [{"body_sha256": "0" * 64, **row} for row in rows]
    connection.execute(insert(idempotency_keys), [{name: row[name] for name in keys} for row in digests])
    last = [
        {"institution_id": name, "last": 3 * EACH_MONTH}
        for name in sorted({row["institution_id"] for row in rows})
    ]
    connection.execute(insert(decision_sequences), last)
    connection.execute(
        insert(outbox),
        [
            {
                "target": target,
                "subject_id": row["decision_id"],
                "attempts": number % 3,
                "due_at": NOW_MS + number,
                "created_at": NOW_MS,
                "last_error": "away" if number % 3 else None,
            }
            for target in (ALERT, AUDIT)
            for number, row in enumerate(rows)
        ],
    )
    months = [f"{year}-{month:02}" for year in range(2000, 2026) for month in range(1, 13)]
    connection.execute(
        insert(usage),
        [
            {"institution_id": each["institution_id"], "month": month, "decisions": 1}
            for each in last
            for month in months
        ],
    )


def _rows() -> Iterator[dict[str, Any]]:
    for place, month in enumerate(MONTHS):
        for institution in range(INSTITUTIONS):
            for number in range(EACH_MONTH):
                sequence = place * EACH_MONTH + number + 1
                at = month.begin_ms + number * 3_600_000 * 2
                yield {
                    "decision_id": f"dec_{ids._time_part(at)}{institution:016}",
                    "institution_id": f"ins_{institution:02}",
                    "decision_sequence": sequence,
                    "observed_sequence": sequence * INSTITUTIONS + institution,
                    "transaction_id": f"tx-{sequence}",
                    "customer_id": f"customer-{number % CUSTOMERS}",
                    "event_time_ms": at,
                    "created_at_ms": at,
                    "outcome": "approve",
                    "policy_outcome": "approve",
                    "risk_level": "low",
                    "flagged": False,
                    "schema_version": 1,
                    "record": json.dumps(
                        {"institution": {"base_currency": "EUR"}, "pad": "x" * 400}
                    ).encode(),
                }


def check(filled: Filled, plans: list[Plan], *, months: set[str] | None = None) -> None:
    """Assert that no table is read as a whole, unless it is empty, and that only `months` are looked at."""
    for plan in plans:
        assert not plan.scanned & FILLED
    if filled.is_partitioned and months is not None:
        assert set().union(*(plan.months for plan in plans)) == months


def page(wanted: DecisionFilter, *, before: int | None = None) -> Callable[[Connection], object]:
    return lambda connection: repository.list_decisions(connection, ASKING, wanted, before=before, limit=20)


class TestLookUps:
    def test_of_one_decision_are_made_in_its_month(self, filled: Filled) -> None:
        plans = filled.plans(lambda c: repository.find_decision(c, ASKING, filled.decision_id))

        check(filled, plans, months={"2026_10"})

    def test_by_transaction_go_through_its_key_into_its_month(self, filled: Filled) -> None:
        plans = filled.plans(lambda c: repository.find_by_transaction(c, ASKING, f"tx-{OF_OCTOBER}"))
        listed = filled.plans(page(DecisionFilter(transaction_id=f"tx-{OF_OCTOBER}")))

        check(filled, plans, months={"2026_10"})
        check(filled, listed, months={"2026_10"})

    @pytest.mark.parametrize("before", [None, 500])
    def test_of_the_newest_read_no_more_than_they_show(self, filled: Filled, before: int | None) -> None:
        plans = filled.plans(page(DecisionFilter(), before=before))

        check(filled, plans)
        assert not plans[0].is_sorted
        assert all("sequence" in index for index in plans[0].indexes if "observed" not in index)

    def test_of_a_time_are_made_in_its_months(self, filled: Filled) -> None:
        since, until = MONTHS[1].begin_ms, MONTHS[2].begin_ms

        plans = filled.plans(page(DecisionFilter(since_ms=since, until_ms=until)))

        check(filled, plans, months={"2026_10"})

    def test_of_one_customer_use_the_index_of_customers(self, filled: Filled) -> None:
        plans = filled.plans(page(DecisionFilter(customer_id="customer-7")))

        check(filled, plans)
        assert any("customer" in index for index in plans[0].indexes)

    def test_for_the_relay_are_made_in_the_months_of_the_ids(self, filled: Filled) -> None:
        plans = filled.plans(lambda c: repository.records_of(c, [filled.decision_id] * 3))

        check(filled, plans, months={"2026_10"})

    @pytest.mark.parametrize("sequence", [0, 3 * EACH_MONTH - 5])
    def test_for_velocity_are_made_in_the_time_that_counts(self, filled: Filled, sequence: int) -> None:
        since = MONTHS[2].begin_ms

        plans = filled.plans(
            lambda c: list(repository.records_after(c, ASKING, sequence=sequence, since_ms=since, page=20))
        )

        check(filled, plans, months={"2026_11", "2026_12", "2027_01", "2027_02"})

    def test_of_everything_for_velocity_come_in_the_order_observed(self, filled: Filled) -> None:
        _first, *pages = filled.plans(
            lambda c: list(repository.records_after(c, ASKING, sequence=0, since_ms=0, page=20))
        )

        assert len(pages) == 1 + 3 * EACH_MONTH // 20
        assert all(any("observed" in index for index in plan.indexes) for plan in pages)
        # near the end so little is left that it may be sorted
        assert not any(plan.is_sorted for plan in pages[:10])

    def test_of_base_currencies_look_at_the_last_decision_of_each(self, filled: Filled) -> None:
        plans = filled.plans(repository.base_currencies)

        check(filled, plans)


class TestOutbox:
    def test_due_rows_are_found_by_their_time(self, filled: Filled) -> None:
        plans = filled.plans(lambda c: OUTBOX.claim(c, AUDIT, now=NOW_MS + 100, limit=20))

        check(filled, plans)
        assert "outbox_due" in plans[0].indexes

    def test_what_waits_is_counted_by_the_key_and_no_further_than_asked(self, filled: Filled) -> None:
        plans = filled.plans(lambda c: OUTBOX.pending(c, AUDIT))

        check(filled, plans)
        assert not plans[0].is_sorted

    def test_targets_of_decisions_are_found_by_the_key(self, filled: Filled) -> None:
        plans = filled.plans(lambda c: repository.pending_targets(c, [filled.decision_id]))

        check(filled, plans)

    def test_rows_that_were_told_or_put_back_are_found_by_the_key(self, filled: Filled) -> None:
        plans = filled.plans(
            lambda c: OUTBOX.put_back(c, AUDIT, [filled.decision_id], now=1, delay_ms=1, error="x")
        )

        check(filled, plans)


@pytest.mark.parametrize("filled", ["postgresql"], indirect=True)
class TestPolicies:
    def test_hold_where_these_plans_are_made(self, filled: Filled) -> None:
        with psycopg.connect(filled.url) as says_nothing:
            seen = says_nothing.execute("SELECT count(*) FROM decisions").fetchall()

        assert seen == [(0,)]


class TestUsage:
    # on PostgreSQL that is one statement with the commit: see below
    @pytest.mark.parametrize("filled", ["sqlite"], indirect=True)
    def test_a_month_is_counted_by_its_key(self, filled: Filled) -> None:
        with filled.engine.begin() as connection:
            total = usage_repository.add(connection, {(ASKING, "2025-12"): 1})

        assert total == {(ASKING, "2025-12"): 2}


@pytest.mark.parametrize("filled", ["postgresql"], indirect=True)
class TestCommit:
    """The statements of a commit on PostgreSQL, which are no SQLAlchemy's to run."""

    async def test_a_repeat_is_found_by_its_key_in_its_month(self, filled: Filled) -> None:
        october = {
            "decision_ids": [filled.decision_id],
            "since_ms": MONTHS[1].begin_ms,
            "until_ms": MONTHS[2].begin_ms - 1,
        }

        key = await explained(
            filled, statements.FIND_KEYS, **transposed("wanted", statements.WANTED, [(ASKING, "tx-1")])
        )
        found = await explained(filled, statements.FIND_DECISIONS, **october)

        check(filled, [key, found], months={"2026_10"})

    async def test_what_was_told_and_what_is_counted_are_found_by_their_keys(self, filled: Filled) -> None:
        told = transposed("told", statements.TOLD, [(AUDIT, filled.decision_id)])
        nothing = {
            **transposed("made", statements.MADE, []),
            **transposed("waiting", statements.WAITING, []),
            **transposed("used", statements.USED, [(ASKING, "2025-12", 1)]),
        }

        plan = await explained(filled, statements.KEEP, **told, **nothing)

        check(filled, [plan])


async def explained(filled: Filled, statement: Any, **values: object) -> Plan:  # noqa: ANN401
    explaining = copy.copy(statement)
    explaining.text = "EXPLAIN (FORMAT JSON) " + statement.text
    async with open_group_commits(filled.url) as commits:
        rows = await commits.run(lambda running: running.fetch(explaining, **values))
    return Plan.of_postgres(json.loads(rows[0][0]))
