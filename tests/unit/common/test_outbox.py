import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, MetaData, event, select

from common.db import writing_engine
from common.outbox import (
    FIRST_BACKOFF_MS,
    LEASE_MS,
    MAX_BACKOFF_MS,
    MOST_COUNTED,
    Outbox,
    OutboxEntry,
    backoff_ms,
    outbox_table,
)
from tests.waiting import PATIENCE_S

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000
METADATA = MetaData()
TABLE = outbox_table(METADATA)
OUTBOX = Outbox(TABLE)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = writing_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    METADATA.create_all(made)
    yield made
    made.dispose()


def entries(*subjects: str, target: str = "alert") -> list[OutboxEntry]:
    return [OutboxEntry(target, subject) for subject in subjects]


def add(connection: Connection, *subjects: str, now: int = NOW, lease_ms: int = 0) -> None:
    OUTBOX.add(connection, entries(*subjects), now=now, lease_ms=lease_ms)


def claim(connection: Connection, *, now: int = NOW, limit: int = 100, target: str = "alert") -> list[str]:
    return OUTBOX.claim(connection, target, now=now, limit=limit)


def put_back(connection: Connection, *subjects: str, now: int, delay_ms: int, error: str = "away") -> None:
    OUTBOX.put_back(connection, "alert", subjects, now=now, delay_ms=delay_ms, error=error)


class TestLeases:
    def test_rows_are_born_leased_to_the_one_who_writes_them(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "a", lease_ms=5000)

            assert claim(connection, now=NOW + 4999) == []
            assert claim(connection, now=NOW + 5000) == ["a"]

    def test_a_claimed_row_is_leased(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "a")
            claim(connection)

            assert claim(connection, now=NOW + LEASE_MS - 1) == []
            assert claim(connection, now=NOW + LEASE_MS) == ["a"]

    def test_claims_count_as_attempts(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "a")
            claim(connection)
            claim(connection, now=NOW + LEASE_MS)

            assert connection.scalar(select(TABLE.c.attempts)) == 2

    def test_the_oldest_come_first_and_no_more_than_asked_for(self, engine: Engine) -> None:
        with engine.begin() as connection:
            for age, subject in enumerate(["c", "a", "b"]):
                add(connection, subject, now=NOW - 1000 + age)

            assert claim(connection, limit=2) == ["c", "a"]
            assert claim(connection, limit=2) == ["b"]

    def test_each_target_has_its_own_rows(self, engine: Engine) -> None:
        with engine.begin() as connection:
            OUTBOX.add(connection, entries("a") + entries("a", "b", target="audit"), now=NOW, lease_ms=0)

            assert claim(connection, target="audit") == ["a", "b"]
            assert claim(connection, target="alert") == ["a"]
            assert claim(connection, target="nobody") == []

    def test_writing_nothing_is_nothing(self, engine: Engine) -> None:
        with engine.begin() as connection:
            OUTBOX.add(connection, [], now=NOW, lease_ms=0)
            OUTBOX.remove(connection, "alert", [])
            put_back(connection, now=NOW, delay_ms=0)

            assert OUTBOX.pending(connection, "alert") == (0, None)

    @pytest.mark.parametrize("set_back_ms", [HOUR_MS, 24 * HOUR_MS])
    def test_a_clock_set_back_does_not_stall_rows(self, engine: Engine, set_back_ms: int) -> None:
        with engine.begin() as connection:
            add(connection, "born")
            add(connection, "failed")
            claim(connection)
            put_back(connection, "failed", now=NOW, delay_ms=MAX_BACKOFF_MS)

            assert claim(connection, now=NOW - set_back_ms) == ["born", "failed"]

    def test_no_lease_or_backoff_looks_like_a_clock_set_back(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "a")
            claim(connection)
            put_back(connection, "a", now=NOW, delay_ms=MAX_BACKOFF_MS)

            assert claim(connection, now=NOW) == []

    def test_two_processes_on_one_file_never_claim_the_same_row(self, engine: Engine, tmp_path: Path) -> None:
        with engine.begin() as connection:
            add(connection, *(f"s{number:04}" for number in range(1000)))
        ready = threading.Barrier(4)
        claimed: list[list[str]] = [[], [], [], []]

        def take(mine: list[str]) -> None:
            own = writing_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
            ready.wait(PATIENCE_S)
            while True:
                with own.begin() as connection:
                    taken = claim(connection, limit=10)
                if not taken:
                    break
                mine += taken
            own.dispose()

        threads = [threading.Thread(target=take, args=(mine,)) for mine in claimed]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)

        every = [subject for mine in claimed for subject in mine]
        assert len(every) == len(set(every)) == 1000


class TestAfterwards:
    def test_what_was_told_is_gone(self, engine: Engine) -> None:
        with engine.begin() as connection:
            OUTBOX.add(connection, entries("a", "b") + entries("a", target="audit"), now=NOW, lease_ms=0)

            OUTBOX.remove(connection, "alert", ["a"])

            assert OUTBOX.pending_subjects(connection, ["a", "b", "c"], targets=["alert", "audit"]) == {
                ("alert", "b"),
                ("audit", "a"),
            }

    def test_what_was_put_back_is_due_after_its_delay(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "a")
            claim(connection)
            put_back(connection, "a", now=NOW, delay_ms=800, error="x" * 300)

            assert connection.scalar(select(TABLE.c.last_error)) == "x" * 200
            assert claim(connection, now=NOW + 799) == []
            assert claim(connection, now=NOW + 800) == ["a"]

    def test_a_success_wakes_those_that_failed(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "a", "b")
            claim(connection)
            put_back(connection, "a", "b", now=NOW, delay_ms=MAX_BACKOFF_MS)

            OUTBOX.wake(connection, "alert", now=NOW + 1)

            assert claim(connection, now=NOW + 1) == ["a", "b"]

    def test_a_success_wakes_neither_refused_nor_fresh_nor_leased_rows_nor_other_targets(
        self, engine: Engine
    ) -> None:
        with engine.begin() as connection:
            add(connection, "refused", "leased", "audited")
            add(connection, "fresh", lease_ms=LEASE_MS)
            OUTBOX.add(connection, entries("other", target="audit"), now=NOW, lease_ms=0)
            claim(connection, target="audit")
            OUTBOX.put_back(connection, "audit", ["other"], now=NOW, delay_ms=9000, error="away")
            claim(connection)
            put_back(connection, "refused", now=NOW, delay_ms=9000, error="refused: status 422")
            put_back(connection, "leased", now=NOW, delay_ms=0, error="away")
            claim(connection)

            OUTBOX.wake(connection, "alert", now=NOW + 1)

            assert claim(connection, now=NOW + 1) == []
            assert claim(connection, now=NOW + 1, target="audit") == []

    def test_waking_is_done_in_parts_and_the_oldest_come_first(self, engine: Engine) -> None:
        subjects = ["c", "a", "d", "b"]
        with engine.begin() as connection:
            for age, subject in enumerate(subjects):
                add(connection, subject, now=NOW - 1000 + age)
            claim(connection)
            put_back(connection, *subjects, now=NOW, delay_ms=9000)

            woken = [OUTBOX.wake(connection, "alert", now=NOW, limit=3) for _ in range(3)]

            assert woken == [3, 1, 0]
            assert [claim(connection, limit=1) for _ in subjects] == [["c"], ["a"], ["d"], ["b"]]

    def test_rows_written_by_a_clock_ahead_are_woken_all_the_same(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "a", now=NOW + HOUR_MS)
            claim(connection, now=NOW + HOUR_MS)
            put_back(connection, "a", now=NOW, delay_ms=9000)

            OUTBOX.wake(connection, "alert", now=NOW)

            assert claim(connection) == ["a"]

    def test_counts_what_waits_and_since_when(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "new", now=NOW)
            add(connection, "old", now=NOW - 5000)

            assert OUTBOX.pending(connection, "alert") == (2, NOW - 5000)
            assert OUTBOX.pending(connection, "audit") == (0, None)

    def test_counts_no_further_than_it_says_however_much_waits(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, *(f"s{number:05}" for number in range(MOST_COUNTED + 5)), now=NOW)

            assert OUTBOX.pending(connection, "alert") == (MOST_COUNTED, NOW)


@contextmanager
def statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is executed, and with which parameters."""
    seen: list[tuple[str, Any]] = []

    def note(*call: Any) -> None:  # noqa: ANN401 - SQLAlchemy's event
        seen.append((call[2], call[3]))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


class TestCost:
    @pytest.mark.parametrize("due", [True, False])
    def test_claiming_reads_one_range_of_the_index_however_many_rows_wait(
        self, engine: Engine, *, due: bool
    ) -> None:
        with engine.begin() as connection:
            add(connection, *(f"s{number}" for number in range(300)), lease_ms=0 if due else LEASE_MS)
        with engine.begin() as connection, statements(engine) as seen:
            claim(connection, limit=10)

        with engine.begin() as connection:
            plans = [
                row.detail
                for statement, parameters in seen
                for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)
            ]

        assert len(seen) == (1 if due else 2)
        assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN outbox")]
        assert [step for step in plans if "outbox_due (target=? AND due_at" in step]


class TestBackoff:
    @pytest.mark.parametrize("failures", [0, 1, 2, 5, 6, 7, 16, 17, 1000, 10**6])
    def test_stays_within_its_bounds(self, failures: int) -> None:
        longest = min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** min(failures, 16))

        waits = [backoff_ms(failures) for _ in range(200)]

        assert min(waits) >= FIRST_BACKOFF_MS // 2
        assert max(waits) <= longest <= MAX_BACKOFF_MS

    def test_is_spread_out(self) -> None:
        assert len({backoff_ms(10) for _ in range(100)}) > 50
