import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, MetaData, select, update
from structlog.testing import capture_logs

from common.clock import epoch_ms
from common.db import writing_engine
from common.http import Delivery
from common.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_PENDING
from common.outbox import (
    FIRST_BACKOFF_MS,
    LEASE_MS,
    MAX_BACKOFF_MS,
    Outbox,
    OutboxEntry,
    Relay,
    backoff_ms,
    outbox_table,
)
from common.writer import DatabaseWriter

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000
TIMEOUT_S = 20
METADATA = MetaData()
TABLE = outbox_table(METADATA)
OUTBOX = Outbox(TABLE)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = writing_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    METADATA.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
async def writer(engine: Engine) -> AsyncIterator[DatabaseWriter]:
    made = DatabaseWriter(engine)
    yield made
    await made.close()


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
            ready.wait(TIMEOUT_S)
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
            thread.join(TIMEOUT_S)

        every = [subject for mine in claimed for subject in mine]
        assert len(every) == len(set(every)) == 1000


class TestAfterwards:
    def test_what_was_told_is_gone(self, engine: Engine) -> None:
        with engine.begin() as connection:
            OUTBOX.add(connection, entries("a", "b") + entries("a", target="audit"), now=NOW, lease_ms=0)

            OUTBOX.remove(connection, "alert", ["a"])

            assert OUTBOX.pending_subjects(connection, ["a", "b", "c"]) == {("alert", "b"), ("audit", "a")}

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

    def test_counts_what_waits_and_since_when(self, engine: Engine) -> None:
        with engine.begin() as connection:
            add(connection, "new", now=NOW)
            add(connection, "old", now=NOW - 5000)

            assert OUTBOX.pending(connection, "alert") == (2, NOW - 5000)
            assert OUTBOX.pending(connection, "audit") == (0, None)


class TestBackoff:
    @pytest.mark.parametrize("failures", [0, 1, 2, 5, 6, 7, 16, 17, 1000, 10**6])
    def test_stays_within_its_bounds(self, failures: int) -> None:
        longest = min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** min(failures, 16))

        waits = [backoff_ms(failures) for _ in range(200)]

        assert min(waits) >= FIRST_BACKOFF_MS // 2
        assert max(waits) <= longest <= MAX_BACKOFF_MS

    def test_is_spread_out(self) -> None:
        assert len({backoff_ms(10) for _ in range(100)}) > 50


class Target:
    """Receives subjects; some it refuses, and it can be away."""

    def __init__(self) -> None:
        self.away = False
        self.refused: set[str] = set()
        self.told: list[str] = []
        self.tries: list[list[str]] = []
        self.changed = asyncio.Condition()

    async def send(self, subjects: Sequence[str]) -> Delivery:
        self.tries.append(list(subjects))
        async with self.changed:
            self.changed.notify_all()
        await asyncio.sleep(0)  # another relay gets its turn, as it would during a request
        if self.away:
            return Delivery("alert", delivered=False, error="ConnectError")
        if self.refused & set(subjects):
            return Delivery("alert", delivered=False, error="status 422", refused=True)
        self.told += subjects
        async with self.changed:
            self.changed.notify_all()
        return Delivery("alert", delivered=True)

    async def until(self, *, told: int = 0, tries: int = 0) -> None:
        async with asyncio.timeout(TIMEOUT_S), self.changed:
            await self.changed.wait_for(lambda: len(self.told) >= told and len(self.tries) >= tries)


def relay_for(writer: DatabaseWriter, target: Target, *, batch: int = 256) -> Relay:
    return Relay(writer, OUTBOX, target="alert", send=target.send, batch=batch)


@asynccontextmanager
async def relaying(*relays: Relay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def rows(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as connection:
        yield connection


async def write(writer: DatabaseWriter, *subjects: str) -> None:
    await writer.run(lambda c: add(c, *subjects, now=epoch_ms()))


async def pending(writer: DatabaseWriter) -> int:
    return await writer.run(lambda c: OUTBOX.pending(c, "alert")[0])


async def make_due(writer: DatabaseWriter) -> None:
    """Let the waits of all rows pass."""
    await writer.run(lambda c: c.execute(update(TABLE).values(due_at=0)))


class TestRelay:
    async def test_drains_a_thousand_rows_once_each(self, writer: DatabaseWriter) -> None:
        target = Target()
        subjects = [f"s{number:04}" for number in range(1000)]
        await write(writer, *subjects)

        async with relaying(relay_for(writer, target)):
            await target.until(told=1000)

        assert sorted(target.told) == subjects
        assert len(target.tries) == 4
        assert await pending(writer) == 0

    async def test_takes_rows_that_come_while_it_idles(self, writer: DatabaseWriter) -> None:
        target = Target()
        async with relaying(relay_for(writer, target)):
            await write(writer, "first")
            await target.until(told=1)
            await write(writer, "second")
            await target.until(told=2)

        assert target.told == ["first", "second"]

    async def test_leaves_rows_alone_that_are_leased_to_their_writer(self, writer: DatabaseWriter) -> None:
        target = Target()
        await writer.run(lambda c: add(c, "mine", now=epoch_ms(), lease_ms=LEASE_MS))

        taken = await relay_for(writer, target).relay_once()

        assert taken == 0
        assert target.tries == []

    async def test_tells_one_row_at_a_time_while_the_target_is_away(self, writer: DatabaseWriter) -> None:
        target = Target()
        target.away = True
        relay = relay_for(writer, target)
        await write(writer, *"abcd")

        with capture_logs() as lines:
            await relay.relay_once()
            await make_due(writer)
            await relay.relay_once()
            await make_due(writer)
            await relay.relay_once()

        assert [len(tried) for tried in target.tries] == [4, 1, 1]
        assert [(line["event"], line["error"]) for line in lines] == [
            ("outbox.not_delivered", "ConnectError")
        ] * 3
        assert await pending(writer) == 4

    async def test_waits_no_longer_than_the_longest_backoff(self, writer: DatabaseWriter) -> None:
        target = Target()
        target.away = True
        relay = relay_for(writer, target)
        await write(writer, "a")
        for _ in range(10):
            await make_due(writer)
            await relay.relay_once()

        due = await writer.run(lambda c: c.scalar(select(TABLE.c.due_at)))

        assert due is not None
        assert due <= epoch_ms() + MAX_BACKOFF_MS

    async def test_the_first_success_wakes_all_the_others(self, writer: DatabaseWriter) -> None:
        target = Target()
        target.away = True
        relay = relay_for(writer, target)
        await write(writer, *"abcd")
        await relay.relay_once()
        target.away = False
        await writer.run(lambda c: c.execute(update(TABLE).where(TABLE.c.subject_id == "a").values(due_at=0)))

        await relay.relay_once()
        await relay.relay_once()

        assert target.told == ["a", "b", "c", "d"]
        assert await pending(writer) == 0

    async def test_a_refused_row_does_not_hold_up_the_others_of_its_batch(
        self, writer: DatabaseWriter
    ) -> None:
        target = Target()
        target.refused = {"c"}
        await write(writer, *"abcde")

        with capture_logs() as lines:
            await relay_for(writer, target).relay_once()

        assert target.told == ["a", "b", "d", "e"]
        assert await pending(writer) == 1
        assert [(line["event"], line["subject"]) for line in lines] == [("outbox.refused", "c")]

    async def test_a_refused_row_is_not_woken_by_the_success_of_others(self, writer: DatabaseWriter) -> None:
        target = Target()
        target.refused = {"c"}
        relay = relay_for(writer, target)
        await write(writer, "c")
        await relay.relay_once()
        target.away = True
        await write(writer, "d")
        await relay.relay_once()
        target.away = False
        await writer.run(lambda c: c.execute(update(TABLE).where(TABLE.c.subject_id == "d").values(due_at=0)))
        await relay.relay_once()

        error, due = await writer.run(lambda c: c.execute(select(TABLE.c.last_error, TABLE.c.due_at)).one())

        assert target.told == ["d"]
        assert error == "refused: status 422"
        assert due > epoch_ms()

    async def test_a_refused_row_is_tried_again_later_and_gone_once_taken(
        self, writer: DatabaseWriter
    ) -> None:
        target = Target()
        target.refused = {"c"}
        relay = relay_for(writer, target)
        await write(writer, "c")
        await relay.relay_once()
        target.refused = set()
        await make_due(writer)

        await relay.relay_once()

        assert target.told == ["c"]
        assert await pending(writer) == 0

    async def test_a_target_that_goes_away_within_a_refused_batch_loses_nothing(
        self, writer: DatabaseWriter
    ) -> None:
        class Leaving(Target):
            async def send(self, subjects: Sequence[str]) -> Delivery:
                self.away = len(self.tries) >= 2
                return await super().send(subjects)

        target = Leaving()
        target.refused = {"c"}
        await write(writer, *"abc")

        await relay_for(writer, target).relay_once()

        assert target.told == ["a"]
        assert await pending(writer) == 2

    async def test_an_unnamed_failure_is_kept_all_the_same(self, writer: DatabaseWriter) -> None:
        async def fail(_subjects: Sequence[str]) -> Delivery:
            return Delivery("alert", delivered=False)

        await write(writer, "a")

        await Relay(writer, OUTBOX, target="alert", send=fail).relay_once()

        assert await writer.run(lambda c: c.scalar(select(TABLE.c.last_error))) == "unknown"

    async def test_concurrent_relays_never_tell_the_same_row_within_a_lease(
        self, writer: DatabaseWriter, tmp_path: Path
    ) -> None:
        target = Target()
        other = DatabaseWriter(writing_engine(f"sqlite:///{tmp_path / 'outbox.db'}"))
        subjects = [f"s{number:03}" for number in range(300)]
        await write(writer, *subjects)

        async with relaying(*(relay_for(one, target, batch=7) for one in (writer, other, writer, other))):
            await target.until(told=300)
        await other.close()

        assert sorted(target.told) == subjects
        assert sorted(subject for tried in target.tries for subject in tried) == subjects

    async def test_a_recovering_relay_does_not_wake_what_another_is_telling(
        self, writer: DatabaseWriter
    ) -> None:
        target = Target()
        target.away = True
        await write(writer, "a", "b")
        recovering = relay_for(writer, target)
        await recovering.relay_once()
        target.away = False
        await make_due(writer)
        told_by_another = await writer.run(lambda c: claim(c, now=epoch_ms(), limit=1))

        await recovering.relay_once()
        again = await recovering.relay_once()

        assert told_by_another == ["a"]
        assert target.told == ["b"]
        assert again == 0

    async def test_counts_and_dates_what_waits(self, writer: DatabaseWriter) -> None:
        target = Target()
        target.away = True
        await writer.run(lambda c: add(c, "a", "b", now=epoch_ms() - 60_000))

        await relay_for(writer, target).relay_once()

        assert OUTBOX_PENDING.labels("alert")._value.get() == 2
        assert 60 <= OUTBOX_OLDEST_SECONDS.labels("alert")._value.get() < 120
