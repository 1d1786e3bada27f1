"""The meter on a real database."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, insert, select

from ai_service.bootstrap import MIGRATIONS
from ai_service.changes import metadata as changes_metadata
from ai_service.ml.tables import metadata as models_metadata
from ai_service.scoring.tables import metadata as scoring_metadata
from ai_service.scoring.tables import outbox
from ai_service.usage.service import QuotaExceededError, UsageMeter
from ai_service.usage.tables import metadata, quota_warnings, usage
from common.contracts.access import OverQuota
from common.db import migrate, writing_engine
from common.errors import UnavailableError
from common.outbox import Outbox
from common.tenancy import EVERY_TENANT, of_every_tenant
from tests.fakes import FakeAllowances, allowance

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
OURS = ("ins_a", "2026-11")
BLOCKING = allowance(decisions_per_month=10, over_quota=OverQuota.BLOCK)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'ai.db'}"
    migrate(url, migrations=MIGRATIONS)
    opened = writing_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def allowances() -> FakeAllowances:
    return FakeAllowances(BLOCKING)


@pytest.fixture
def meter(allowances: FakeAllowances) -> UsageMeter:
    return UsageMeter(allowances, Outbox(outbox))


def decide(meter: UsageMeter, engine: Engine, times: int, key: tuple[str, str] = OURS) -> None:
    """Count a batch that is committed."""
    with engine.begin() as connection:
        counted = meter.count(connection, {key: times}, now_ms=NOW_MS)
    meter.committed(counted)


def warned(engine: Engine, *, of: int | None = None) -> list[int]:
    """Return the thresholds of the warnings that were written: all, or those of one quota."""
    query = select(quota_warnings.c.threshold)
    if of is not None:
        query = query.where(quota_warnings.c.quota == of).order_by(quota_warnings.c.threshold)
    with engine.connect() as connection:
        return list(connection.scalars(of_every_tenant(query, "the test")))


def places_left(meter: UsageMeter, *, now: datetime) -> int:
    """Take places until there is none, and give them all back."""
    with ExitStack() as taken:
        for count in range(100):
            try:
                taken.enter_context(meter.place("ins_a", now=now))
            except QuotaExceededError:
                return count
    raise AssertionError("there is no end of places")


class TestMigrations:
    def test_make_the_tables_that_the_code_declares(self, engine: Engine) -> None:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            declared: Any = [
                scoring_metadata,
                metadata,
                changes_metadata,
                models_metadata,
            ]  # alembic takes several, and does not say so
            found = compare_metadata(context, declared)

        assert found == []


class TestCount:
    def test_adds_up_by_institution_and_month(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 2)
        decide(meter, engine, 3)
        decide(meter, engine, 7, ("ins_a", "2026-12"))
        decide(meter, engine, 1, ("ins_b", "2026-11"))

        assert meter.report("ins_a", now=NOW).decisions == 5
        assert meter.report("ins_b", now=NOW).decisions == 1
        assert meter.report("ins_c", now=NOW).decisions == 0

    def test_changes_nothing_before_it_is_committed(self, meter: UsageMeter, engine: Engine) -> None:
        with engine.connect() as connection, connection.begin() as transaction:
            meter.count(connection, {OURS: 9}, now_ms=NOW_MS)
            transaction.rollback()

        decide(meter, engine, 1)

        assert meter.report("ins_a", now=NOW).decisions == 1
        assert warned(engine) == []

    def test_takes_batches_in_any_order(self, meter: UsageMeter, engine: Engine) -> None:
        with engine.begin() as connection:
            first = meter.count(connection, {OURS: 2}, now_ms=NOW_MS)
        with engine.begin() as connection:
            second = meter.count(connection, {OURS: 3}, now_ms=NOW_MS)

        meter.committed(second)
        meter.committed(first)

        assert meter.report("ins_a", now=NOW).decisions == 5

    def test_is_known_to_the_process_that_comes_next(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        decide(meter, engine, 6, ("ins_a", "2026-10"))
        decide(meter, engine, 6)
        following = UsageMeter(allowances, Outbox(outbox))

        with engine.connect() as connection:
            following.load(connection, now=NOW)
        decide(following, engine, 1)

        assert following.report("ins_a", now=NOW).decisions == 7
        assert sorted(warned(engine)) == [50, 50]  # October's and November's


class TestBeyondTheQuota:
    def test_is_not_counted_whatever_another_process_knows(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        stale = UsageMeter(allowances, Outbox(outbox))
        decide(meter, engine, 8)

        with engine.begin() as connection:
            counted = stale.count(connection, {OURS: 5, ("ins_b", "2026-11"): 5}, now_ms=NOW_MS)
        stale.committed(counted)

        assert counted.beyond == {OURS: 3}
        assert counted.totals == {OURS: 10, ("ins_b", "2026-11"): 5}
        assert stale.report("ins_a", now=NOW).decisions == 10

    def test_is_all_of_a_batch_when_the_quota_was_lowered(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        decide(meter, engine, 8)
        allowances.for_all = allowance(decisions_per_month=5, over_quota=OverQuota.BLOCK)

        with engine.begin() as connection:
            counted = meter.count(connection, {OURS: 2}, now_ms=NOW_MS)

        assert counted.beyond == {OURS: 2}
        assert counted.totals == {OURS: 8}

    def test_is_counted_where_it_is_only_warned_of(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        allowances.for_all = allowance(decisions_per_month=5, over_quota=OverQuota.ALLOW_AND_WARN)

        with engine.begin() as connection:
            counted = meter.count(connection, {OURS: 9}, now_ms=NOW_MS)

        assert counted.beyond == {}
        assert counted.totals == {OURS: 9}


class TestWarnings:
    def test_are_written_with_what_reaches_them(self, meter: UsageMeter, engine: Engine) -> None:
        found = []
        for _ in range(12):
            decide(meter, engine, 1)
            found.append(warned(engine)[:])

        assert [len(each) for each in found] == [0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 4, 4]
        assert sorted(found[-1]) == [50, 80, 90, 100]

    def test_are_in_the_outbox_at_once(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 8)

        with engine.connect() as connection:
            told = {(row.target, row.subject_id) for row in connection.execute(select(outbox))}
            query = of_every_tenant(select(quota_warnings.c.warning_id), "the test")
            kept = {("notices", each) for each in connection.scalars(query)}
        assert told == kept
        assert len(told) == 2

    def test_are_not_written_twice_by_batches_that_know_nothing_of_one_another(
        self, meter: UsageMeter, engine: Engine
    ) -> None:
        for _ in range(2):
            with engine.begin() as connection:
                meter.count(connection, {OURS: 5}, now_ms=NOW_MS)

        with engine.connect() as connection:
            rows = connection.scalar(select(func.count()).select_from(outbox))
        assert sorted(warned(engine)) == [50, 80, 90, 100]
        assert rows == 4

    def test_are_given_anew_each_month(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 5)
        decide(meter, engine, 5, ("ins_a", "2026-12"))

        assert warned(engine) == [50, 50]

    def test_are_due_when_a_quota_was_lowered(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        allowances.for_all = allowance(decisions_per_month=1000)
        decide(meter, engine, 84)
        allowances.for_all = allowance(decisions_per_month=100)

        decide(meter, engine, 1)

        assert sorted(warned(engine)) == [50, 80]

    def test_are_given_anew_when_a_quota_was_raised(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        decide(meter, engine, 10)
        allowances.for_all = allowance(decisions_per_month=100)
        found = []
        for decisions in (39, 1, 30, 10, 9, 1, 5):
            decide(meter, engine, decisions)
            found.append(warned(engine, of=100))

        assert found == [[], [50], [50, 80], [50, 80, 90], [50, 80, 90], [50, 80, 90, 100], [50, 80, 90, 100]]
        assert warned(engine, of=10) == [50, 80, 90, 100]

    def test_of_two_quotas_are_two_notices(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        for quota in (10, 20):
            allowances.for_all = allowance(decisions_per_month=quota)
            decide(meter, engine, 10)

        assert len(set(told(engine))) == 8

    def test_of_both_quotas_are_known_to_the_process_that_comes_next(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        for quota in (10, 20):
            allowances.for_all = allowance(decisions_per_month=quota)
            decide(meter, engine, 5)
        following = UsageMeter(allowances, Outbox(outbox))

        with engine.connect() as connection:
            following.load(connection, now=NOW)

        assert following.warnings_due({OURS: 10}, now_ms=NOW_MS) == []
        allowances.for_all = BLOCKING
        assert [each.threshold for each in following.warnings_due({OURS: 10}, now_ms=NOW_MS)] == [80, 90, 100]

    @pytest.mark.parametrize("known", [None, allowance(decisions_per_month=None)])
    def test_are_none_without_a_quota(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances, known: None
    ) -> None:
        allowances.for_all = known

        decide(meter, engine, 1000)

        assert warned(engine) == []


class TestPlaces:
    def test_are_as_many_as_are_left(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 8)

        with ExitStack() as held:
            held.enter_context(meter.place("ins_a", now=NOW))
            held.enter_context(meter.place("ins_a", now=NOW))
            with pytest.raises(QuotaExceededError) as refused, meter.place("ins_a", now=NOW):
                pytest.fail("there is no third one")

        assert refused.value.retry_after_s == 1

    def test_come_back_when_nothing_was_decided(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 9)
        for _ in range(5):
            with pytest.raises(ZeroDivisionError), meter.place("ins_a", now=NOW):
                raise ZeroDivisionError

        assert places_left(meter, now=NOW) == 1

    def test_are_none_when_the_month_is_used_up(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 10)

        with pytest.raises(QuotaExceededError) as refused, meter.place("ins_a", now=NOW):
            pytest.fail("it is used up")

        assert refused.value.headers == {"Retry-After": str(10 * 86_400 + 12 * 3600)}

    def test_are_there_again_in_the_next_month(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 10)

        assert places_left(meter, now=NOW) == 0
        assert places_left(meter, now=datetime(2026, 12, 1, tzinfo=UTC)) == 10

    @pytest.mark.parametrize(
        "known",
        [
            None,
            allowance(decisions_per_month=10, over_quota=OverQuota.ALLOW_AND_WARN),
            allowance(decisions_per_month=None, over_quota=OverQuota.BLOCK),
        ],
    )
    def test_are_not_counted_where_nothing_is_blocked(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances, known: None
    ) -> None:
        allowances.for_all = known
        decide(meter, engine, 20)

        with meter.place("ins_a", now=NOW), meter.place("ins_a", now=NOW):
            pass


class TestReport:
    def test_says_what_was_used_and_what_may_be(self, meter: UsageMeter, engine: Engine) -> None:
        decide(meter, engine, 3)

        assert meter.report("ins_a", now=NOW).model_dump(mode="json") == {
            "month": "2026-11",
            "decisions": 3,
            "quota": 10,
            "percent": 30.0,
            "over_quota": "block",
            "tier": "growth",
            "resets_at": "2026-12-01T00:00:00Z",
            "rate_limits": {"requests_per_second": 100_000, "caller_requests_per_second": 100_000},
        }

    def test_has_no_percent_without_a_quota(
        self, meter: UsageMeter, engine: Engine, allowances: FakeAllowances
    ) -> None:
        allowances.for_all = allowance(decisions_per_month=None)

        report = meter.report("ins_a", now=NOW)

        assert (report.quota, report.percent) == (None, None)

    def test_is_not_there_while_nothing_is_known(self, meter: UsageMeter, allowances: FakeAllowances) -> None:
        allowances.for_all = None

        with pytest.raises(UnavailableError):
            meter.report("ins_a", now=NOW)


class TestUsageFromBefore:
    def test_is_counted_when_the_tables_are_made(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'old.db'}"
        old = tmp_path / "migrations"
        old.mkdir()
        (old / "env.py").write_text((MIGRATIONS / "env.py").read_text())
        (old / "versions").mkdir()
        first = MIGRATIONS / "versions" / "0001_initial.py"
        (old / "versions" / first.name).write_text(first.read_text())
        migrate(url, migrations=old)
        engine = writing_engine(url)
        with engine.begin() as connection:
            connection.execute(insert(scoring_metadata.tables["decisions"]), list(decisions_from_before()))

        migrate(url, migrations=MIGRATIONS)

        with engine.connect() as connection:
            rows = {tuple(row) for row in connection.execute(of_every_tenant(select(usage), "the test"))}
        engine.dispose()
        assert rows == {("ins_a", "2026-10", 1), ("ins_a", "2026-11", 2), ("ins_b", "2026-11", 1)}


def decisions_from_before() -> Iterator[dict[str, object]]:
    made = [
        ("ins_a", datetime(2026, 10, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
        ("ins_a", datetime(2026, 11, 1, tzinfo=UTC)),
        ("ins_a", NOW),
        ("ins_b", NOW),
    ]
    for number, (institution_id, at) in enumerate(made):
        yield {
            "decision_id": f"dec_{number}",
            "institution_id": institution_id,
            "decision_sequence": number,
            "observed_sequence": number,
            "transaction_id": f"tx-{number}",
            "customer_id": "c",
            "event_time_ms": 0,
            "created_at_ms": int(at.timestamp() * 1000),
            "outcome": "approve",
            "policy_outcome": "approve",
            "risk_level": "low",
            "flagged": False,
            "schema_version": 1,
            "record": b"{}",
        }


class TestWarningsByQuota:
    def test_are_the_first_of_each_threshold_again_in_the_release_before(
        self, engine: Engine, meter: UsageMeter, allowances: FakeAllowances
    ) -> None:
        for quota in (10, 100):
            allowances.for_all = allowance(decisions_per_month=quota)
            decide(meter, engine, 80)
        told_before = set(told(engine))

        _downgrade(engine, "0006")

        assert sorted(warned(engine, of=10)) == sorted(warned(engine)) == [50, 80, 90, 100]
        assert set(told(engine)) < told_before
        assert len(told(engine)) == 4


def told(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(outbox.c.subject_id)))


def _downgrade(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execution_options(**{EVERY_TENANT: "migrations change the rows of all"})
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
