"""Decisions by month on PostgreSQL: partitions are there before they are needed, and nothing is ever refused."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, insert, select

from ai_service.bootstrap import MIGRATIONS
from ai_service.changes import metadata as changes_metadata
from ai_service.clients.alerts import TARGET as ALERT
from ai_service.ml.tables import metadata as models_metadata
from ai_service.scoring import repository
from ai_service.scoring.partitions import IN_DEFAULT, PartitionKeeper
from ai_service.scoring.postgres_store import PostgresDecisionStore
from ai_service.scoring.saving import Saved
from ai_service.scoring.tables import decisions, metadata, outbox
from ai_service.usage.service import UsageMeter
from ai_service.usage.tables import metadata as usage_metadata
from common.clients.logs import TARGET as AUDIT
from common.clock import epoch_ms
from common.db import migrate, writing_engine
from common.outbox import Outbox
from common.postgres.commits import open_group_commits
from common.postgres.partitions import Month, MonthlyPartitions
from common.tenancy import EVERY_TENANT
from common.writer import DatabaseWriter
from tests.decision_drafts import make_draft
from tests.integration.ai_service.conftest import Quotas
from tests.integration.common.test_postgres import execute, waiting_locks
from tests.postgres import seeing_all
from tests.waiting import eventually

NOVEMBER = Month(2026, 11)
NOW_MS = NOVEMBER.begin_ms + 1_800_000_000
AHEAD = ["decisions_2026_11", "decisions_2026_12", "decisions_2027_01", "decisions_2027_02"]
PARTITIONS = MonthlyPartitions(decisions, "created_at_ms")


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = writing_engine(postgres_url)
    yield made
    made.dispose()


@pytest.fixture
def migrated(postgres_url: str) -> str:
    migrate(postgres_url, migrations=MIGRATIONS)
    return postgres_url


def partitions(url: str) -> list[str]:
    found = execute(
        url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'decisions'::regclass"
    )
    return sorted(str(name) for (name,) in found)


def where(url: str) -> list[tuple[object, ...]]:
    """Return in which partition each decision is."""
    query = "SELECT decision_id, tableoid::regclass::text FROM decisions ORDER BY decision_id"
    return execute(seeing_all(url), query)


def keep(engine: Engine, *, now_ms: int = NOW_MS) -> int | None:
    """Make what is missing and move what is in the default; return what is left, None if another process is at it."""
    with engine.begin() as connection:
        if not PARTITIONS.make_ahead(connection, now_ms=now_ms):
            return None
    while True:
        with engine.begin() as connection:
            if not PARTITIONS.move_one(connection):
                return PARTITIONS.left(connection)


def add(connection: Connection, name: str, *, created_at_ms: int, sequence: int = 1) -> None:
    connection.execution_options(**{EVERY_TENANT: "a test fills for all"})
    connection.execute(insert(decisions).values(**row(name, created_at_ms=created_at_ms, sequence=sequence)))


def row(name: str, *, created_at_ms: int, sequence: int = 1) -> dict[str, object]:
    return {
        "decision_id": name,
        "institution_id": "ins_test",
        "decision_sequence": sequence,
        "observed_sequence": sequence,
        "transaction_id": f"tx-{name}",
        "customer_id": "customer-1",
        "event_time_ms": 1,
        "created_at_ms": created_at_ms,
        "outcome": "approve",
        "policy_outcome": "approve",
        "risk_level": "low",
        "flagged": False,
        "schema_version": 1,
        "record": name.encode(),
    }


class TestMonth:
    @pytest.mark.parametrize(
        ("months", "later"), [(0, (2026, 11)), (1, (2026, 12)), (2, (2027, 1)), (14, (2028, 1))]
    )
    def test_later_ones_go_over_the_year(self, months: int, later: tuple[int, int]) -> None:
        assert NOVEMBER.later(months) == Month(*later)

    def test_begins_at_midnight_utc_and_holds_its_first_and_last_millisecond(self) -> None:
        begin, end = NOVEMBER.begin_ms, NOVEMBER.later(1).begin_ms

        assert begin == 1_793_491_200_000
        assert Month.of(begin) == Month.of(end - 1) == NOVEMBER
        assert Month.of(end) == Month(2026, 12)


class TestKeep:
    def test_makes_this_month_and_the_next_three_once(self, migrated: str, engine: Engine) -> None:
        left = [keep(engine), keep(engine)]

        assert left == [0, 0]
        assert partitions(migrated) == [*AHEAD, "decisions_default"]

    def test_a_decision_goes_into_its_month(self, migrated: str, engine: Engine) -> None:
        keep(engine)

        with engine.begin() as connection:
            add(connection, "first", created_at_ms=NOVEMBER.begin_ms)
            add(connection, "last", created_at_ms=NOVEMBER.later(1).begin_ms - 1, sequence=2)
            add(connection, "next", created_at_ms=NOVEMBER.later(1).begin_ms, sequence=3)

        assert where(migrated) == [("first", AHEAD[0]), ("last", AHEAD[0]), ("next", AHEAD[1])]

    def test_a_decision_of_a_month_without_partition_is_taken_and_moved_when_there_is_one(
        self, migrated: str, engine: Engine
    ) -> None:
        with engine.begin() as connection:
            add(connection, "now", created_at_ms=NOW_MS)
            add(connection, "old", created_at_ms=Month(2025, 2).begin_ms, sequence=2)
            add(connection, "far", created_at_ms=Month(2031, 7).begin_ms, sequence=3)
        before = {partition for _, partition in where(migrated)}

        left = keep(engine)

        assert before == {"decisions_default"}
        assert left == 0
        assert where(migrated) == [
            ("far", "decisions_2031_07"),
            ("now", "decisions_2026_11"),
            ("old", "decisions_2025_02"),
        ]
        with engine.connect() as connection:
            found = repository.find_decision(connection, "ins_test", "old")
        assert found is not None
        assert found.body == b"old"

    def test_a_partition_has_the_indexes_and_the_key_of_the_others(
        self, migrated: str, engine: Engine
    ) -> None:
        keep(engine)

        indexes = execute(
            migrated,
            "SELECT tablename, count(*) FROM pg_indexes WHERE tablename LIKE 'decisions%' GROUP BY 1",
        )

        assert {count for _, count in indexes} == {5}
        assert len(indexes) == 6

    async def test_is_done_by_one_of_several_processes_and_holds_up_nobody(
        self, migrated: str, engine: Engine
    ) -> None:
        with psycopg.connect(migrated) as other:
            other.execute("SELECT pg_advisory_xact_lock(5307114862)")

            left = keep(engine)

        assert left is None
        assert partitions(migrated) == ["decisions_default"]

    async def test_that_cannot_be_done_now_is_done_later_and_refuses_no_decision(
        self, migrated: str, engine: Engine
    ) -> None:
        writer = DatabaseWriter(writing_engine(migrated))
        keeper = PartitionKeeper(writer)
        with psycopg.connect(migrated) as other:
            other.execute("LOCK TABLE decisions_default IN ACCESS SHARE MODE")
            first = await keeper.keep()
        with engine.begin() as connection:
            add(connection, "now", created_at_ms=epoch_ms())
        second = await keeper.keep()
        await writer.close()

        assert (first, second) == (False, True)
        assert IN_DEFAULT._value.get() == 0
        assert "decisions_default" not in {partition for _, partition in where(migrated)}


class TestADetachedPartition:
    def test_is_left_alone_and_rows_of_its_month_are_reported(self, migrated: str, engine: Engine) -> None:
        keep(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE decisions DETACH PARTITION decisions_2026_11")
            add(connection, "late", created_at_ms=NOW_MS)

        left = keep(engine)

        assert left == 1
        assert where(migrated) == [("late", "decisions_default")]


class TestSaving:
    @pytest.mark.parametrize("url", ["postgresql"], indirect=True)
    async def test_waits_while_the_partition_of_the_month_is_made_and_loses_nothing(
        self, url: str, engine: Engine
    ) -> None:
        async def is_waiting() -> bool:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            return bool(execute(url, waiting)[0][0])

        async with open_group_commits(url) as commits:
            store = PostgresDecisionStore(commits, UsageMeter(Quotas(), Outbox(outbox)))
            with engine.begin() as making:
                assert PARTITIONS.make_ahead(making, now_ms=epoch_ms())
                saving = asyncio.create_task(store.save([make_draft("a")], {}, (ALERT, AUDIT)))
                await eventually(is_waiting)
            batch = await saving

        assert isinstance(batch.entries[0], Saved)
        assert "decisions_default" not in {partition for _, partition in where(url)}


class TestMigration:
    """0004, on a database that has decisions."""

    def test_moves_every_decision_into_its_month_and_back(self, postgres_url: str, engine: Engine) -> None:
        upgrade(engine, "0003")
        months = [Month(2026, 3), Month(2026, 10), NOVEMBER]
        rows = [
            row(f"d{number:03}", created_at_ms=month.begin_ms + number, sequence=number)
            for number in range(300)
            for month in [months[number % 3]]
        ]
        with engine.begin() as connection:
            connection.execution_options(**{EVERY_TENANT: "a test fills for all"})
            connection.execute(insert(decisions), rows)
        before = everything(engine)

        upgrade(engine, "0004")
        after, found = everything(engine), where(postgres_url)
        downgrade(engine, "0003")

        assert len(before) == 300
        assert before == after == everything(engine)
        assert {partition for _, partition in found} == {
            "decisions_2026_03",
            "decisions_2026_10",
            "decisions_2026_11",
        }

    def test_makes_the_tables_that_the_code_declares(self, migrated: str, engine: Engine) -> None:
        def is_compared(_thing: object, name: str | None, *_: object) -> bool:
            # a partition is declared nowhere; that index cannot be unique where there are partitions
            return not str(name).startswith(("decisions_default", "decisions_by_sequence"))

        # alembic takes several, and does not say so
        declared: Any = [metadata, usage_metadata, changes_metadata, models_metadata]
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"include_object": is_compared})
            found = compare_metadata(context, declared)

        assert found == []

    async def test_loses_nothing_that_processes_of_the_release_before_write_beside_it(
        self, postgres_url: str, engine: Engine
    ) -> None:
        upgrade(engine, "0003")
        with engine.connect() as writing:
            add(writing, "begun", created_at_ms=NOW_MS)
            migrating = asyncio.create_task(asyncio.to_thread(upgrade, engine, "head"))
            await waiting_locks(postgres_url, 1)
            late = asyncio.create_task(asyncio.to_thread(add_and_commit, engine, "late"))
            await waiting_locks(postgres_url, 2)
            writing.commit()
        await migrating
        await late

        assert [name for name, _ in where(postgres_url)] == ["begun", "late"]


def add_and_commit(engine: Engine, name: str) -> None:
    with engine.begin() as connection:
        add(connection, name, created_at_ms=NOW_MS, sequence=2)


def everything(engine: Engine) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        connection.execution_options(**{EVERY_TENANT: "a test looks at all"})
        return [
            tuple(each) for each in connection.execute(select(decisions).order_by(decisions.c.decision_id))
        ]


def upgrade(engine: Engine, revision: str) -> None:
    _run(engine, command.upgrade, revision)


def downgrade(engine: Engine, revision: str) -> None:
    _run(engine, command.downgrade, revision)


def _run(engine: Engine, change: object, revision: str) -> None:
    with engine.begin() as connection:
        connection.execution_options(**{EVERY_TENANT: "migrations change the rows of all"})
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        change(config, revision)  # type: ignore[operator]
