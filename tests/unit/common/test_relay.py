import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, MetaData, select, update
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from common.circuit import Circuit
from common.clock import epoch_ms
from common.db import writing_engine
from common.delivery import Delivery
from common.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_PENDING
from common.outbox import LEASE_MS, MAX_BACKOFF_MS, Outbox, OutboxEntry, outbox_table
from common.relay import InlineSender, Relay
from common.writer import DatabaseWriter
from tests.waiting import PATIENCE_S

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


def add(connection: Connection, *subjects: str, now: int, lease_ms: int = 0) -> None:
    OUTBOX.add(connection, [OutboxEntry("alert", each) for each in subjects], now=now, lease_ms=lease_ms)


def claim(connection: Connection, *, now: int, limit: int) -> list[str]:
    return OUTBOX.claim(connection, "alert", now=now, limit=limit)


class Target:
    """Receives subjects, at most so many at a time; some it refuses, and it can be away."""

    def __init__(self, *, takes: int = 1000) -> None:
        self.away = False
        self.takes = takes
        self.refused: set[str] = set()
        self.told: list[str] = []
        self.tries: list[list[str]] = []
        self.changed = asyncio.Condition()

    async def send(self, subjects: Sequence[str]) -> Delivery:
        self.tries.append(list(subjects))
        async with self.changed:
            self.changed.notify_all()
        await asyncio.sleep(0)  # another relay gets its turn, as it would during a request
        if self.away or len(subjects) > self.takes:
            return Delivery("alert", delivered=False, error="ConnectError")
        if self.refused & set(subjects):
            return Delivery("alert", delivered=False, error="status 422", refused=True)
        self.told += subjects
        async with self.changed:
            self.changed.notify_all()
        return Delivery("alert", delivered=True)

    async def until(self, *, told: int = 0, tries: int = 0) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: len(self.told) >= told and len(self.tries) >= tries)


class MovableClock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def relay_for(
    writer: DatabaseWriter,
    target: Target,
    *,
    batch: int = 256,
    inline: InlineSender | None = None,
    clock: MovableClock | None = None,
) -> Relay:
    return Relay(
        writer,
        OUTBOX,
        target="alert",
        send=target.send,
        batch=batch,
        inline=inline,
        clock=clock or time.monotonic,
    )


@asynccontextmanager
async def relaying(*relays: Relay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def write(writer: DatabaseWriter, *subjects: str) -> None:
    await writer.run(lambda c: add(c, *subjects, now=epoch_ms()))


async def pending(writer: DatabaseWriter) -> int:
    return await writer.run(lambda c: OUTBOX.pending(c, "alert")[0])


async def make_due(writer: DatabaseWriter) -> None:
    """Let the waits of all rows pass."""
    await writer.run(lambda c: c.execute(update(TABLE).values(due_at=0)))


class TestRelay:
    async def test_drains_a_target_that_fails_for_the_size_of_batches_alone(
        self, writer: DatabaseWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.relay.backoff_ms", lambda _failures: 0)
        target = Target(takes=50)
        await write(writer, *(f"s{number:04}" for number in range(1000)))
        async with relaying(relay_for(writer, target)):
            await target.until(told=1000)

        taken = [len(tried) for tried in target.tries if len(tried) <= 50]
        assert sum(taken) == 1000
        assert len(taken) < 100  # far from one at a time

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

    async def test_a_row_that_nobody_thought_of_stops_no_other(self, writer: DatabaseWriter) -> None:
        class Surprised(Target):
            async def send(self, subjects: Sequence[str]) -> Delivery:
                if "c" in subjects:
                    raise TypeError("no message can be made of this")
                return await super().send(subjects)

        target = Surprised()
        await write(writer, *"abcde")

        await relay_for(writer, target).relay_once()

        assert sorted(target.told) == ["a", "b", "d", "e"]
        assert await pending(writer) == 1

    async def test_a_database_that_is_away_is_no_fault_of_the_rows(self, writer: DatabaseWriter) -> None:
        async def fail(_subjects: Sequence[str]) -> Delivery:
            raise OperationalError("SELECT", None, Exception("locked"))

        await write(writer, "a", "b")

        await Relay(writer, OUTBOX, target="alert", send=fail).relay_once()

        errors = await writer.run(lambda c: c.scalars(select(TABLE.c.last_error)).all())
        assert errors == ["OperationalError"] * 2

    async def test_an_unnamed_failure_is_kept_all_the_same(self, writer: DatabaseWriter) -> None:
        async def fail(_subjects: Sequence[str]) -> Delivery:
            return Delivery("alert", delivered=False)

        await write(writer, "a")

        await Relay(writer, OUTBOX, target="alert", send=fail).relay_once()

        assert await writer.run(lambda c: c.scalar(select(TABLE.c.last_error))) == "unknown"

    async def test_one_bad_row_among_many_is_found_by_halving(self, writer: DatabaseWriter) -> None:
        target = Target()
        target.refused = {"s077"}
        subjects = [f"s{number:03}" for number in range(256)]
        await write(writer, *subjects)

        await relay_for(writer, target).relay_once()

        assert sorted(target.told) == [each for each in subjects if each != "s077"]
        assert len(target.tries) <= 2 * 8 + 1
        assert await pending(writer) == 1

    async def test_many_bad_rows_are_all_set_aside_and_the_good_ones_told(
        self, writer: DatabaseWriter
    ) -> None:
        target = Target()
        subjects = [f"s{number:02}" for number in range(20)]
        target.refused = set(subjects[::2])
        await write(writer, *subjects)

        await relay_for(writer, target).relay_once()

        assert sorted(target.told) == subjects[1::2]
        assert await pending(writer) == 10

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

    async def test_measures_at_most_once_a_second(self, writer: DatabaseWriter) -> None:
        clock = MovableClock()
        relay = relay_for(writer, Target(), clock=clock)
        await relay.relay_once()
        await writer.run(lambda c: add(c, "a", "b", now=epoch_ms(), lease_ms=LEASE_MS))

        clock.now += 0.9
        await relay.relay_once()
        before = OUTBOX_PENDING.labels("alert")._value.get()
        clock.now += 0.2
        await relay.relay_once()

        assert (before, OUTBOX_PENDING.labels("alert")._value.get()) == (0, 2)


class TestWake:
    async def test_what_waits_is_tried_at_once_when_somebody_else_reached_the_target(
        self, writer: DatabaseWriter
    ) -> None:
        target = Target()
        target.away = True
        relay = relay_for(writer, target)
        subjects = [f"s{number:02}" for number in range(50)]
        await write(writer, *subjects)
        for _ in range(8):  # its pauses have grown
            await make_due(writer)
            await relay.relay_once()
        await writer.run(lambda c: c.execute(update(TABLE).values(due_at=epoch_ms() + MAX_BACKOFF_MS)))
        target.away = False

        async with relaying(relay):
            relay.wake()
            await target.until(told=50)

        assert sorted(target.told) == subjects

    async def test_more_rows_than_are_woken_at_once_are_woken_too(self, writer: DatabaseWriter) -> None:
        target = Target()
        count = 4500
        await write(writer, *(f"s{number:04}" for number in range(count)))
        await writer.run(
            lambda c: c.execute(update(TABLE).values(due_at=epoch_ms() + 30_000, last_error="away"))
        )
        relay = relay_for(writer, target, batch=1000)

        relay.wake()
        async with relaying(relay):
            await target.until(told=count)

        assert len(set(target.told)) == count

    async def test_a_success_that_comes_and_goes_wakes_at_most_once_a_second(
        self, writer: DatabaseWriter
    ) -> None:
        target = Target()
        target.away = True
        clock = MovableClock()
        relay = relay_for(writer, target, clock=clock)
        await write(writer, "a")
        await relay.relay_once()

        tries = []
        for _ in range(3):
            clock.now += 0.6
            relay.wake()
            await relay.relay_once()
            tries.append(len(target.tries))

        assert tries == [2, 2, 3]  # what was asked for too soon is not forgotten


def opened_circuit(*, probe_every_s: float = 0.0) -> Circuit:
    circuit = Circuit("alert", failures_to_open=1, probe_every_s=probe_every_s)
    circuit.failed()
    return circuit


class TestInlineSender:
    async def test_may_try_again_once_a_call_of_the_relay_was_quick(self, writer: DatabaseWriter) -> None:
        inline = InlineSender(opened_circuit(), timeout_s=PATIENCE_S)
        target = Target()
        await write(writer, "a")

        await relay_for(writer, target, inline=inline).relay_once()

        assert not inline.circuit.is_open

    async def test_may_not_while_calls_take_longer_than_it_has(self, writer: DatabaseWriter) -> None:
        clock = MovableClock()

        class Slow(Target):
            async def send(self, subjects: Sequence[str]) -> Delivery:
                clock.now += 2
                return await super().send(subjects)

        inline = InlineSender(opened_circuit(), timeout_s=1.9)
        target = Slow()
        await write(writer, "a")

        await relay_for(writer, target, inline=inline, clock=clock).relay_once()

        assert target.told == ["a"]
        assert inline.circuit.is_open

    async def test_may_not_while_the_relay_fails(self, writer: DatabaseWriter) -> None:
        inline = InlineSender(opened_circuit(), timeout_s=PATIENCE_S)
        target = Target()
        target.away = True
        await write(writer, "a")

        await relay_for(writer, target, inline=inline).relay_once()

        assert inline.circuit.is_open

    async def test_a_slow_target_is_drained_in_full_batches_with_a_single_row_as_a_probe_now_and_then(
        self, writer: DatabaseWriter
    ) -> None:
        inline = InlineSender(opened_circuit(probe_every_s=3600), timeout_s=0.0)
        now_and_then = InlineSender(opened_circuit(probe_every_s=0), timeout_s=0.0)
        target = Target()
        await write(writer, *"abcd")

        await relay_for(writer, target, batch=2, inline=now_and_then).relay_once()
        await relay_for(writer, target, batch=2, inline=inline).relay_once()

        assert [len(tried) for tried in target.tries] == [1, 2]

    async def test_its_own_failures_do_not_open_through_the_relay(self, writer: DatabaseWriter) -> None:
        inline = InlineSender(Circuit("alert", failures_to_open=1), timeout_s=PATIENCE_S)
        target = Target()
        target.away = True
        await write(writer, "a")

        await relay_for(writer, target, inline=inline).relay_once()

        assert not inline.circuit.is_open

    async def test_its_first_success_after_a_failure_wakes_what_waits(self, writer: DatabaseWriter) -> None:
        inline = InlineSender(Circuit("alert", failures_to_open=3), timeout_s=PATIENCE_S)
        target = Target()
        target.away = True
        relay = relay_for(writer, target, inline=inline)
        await write(writer, *"abc")
        await relay.relay_once()
        target.away = False
        inline.circuit.failed()

        inline.circuit.succeeded()
        await relay.relay_once()

        assert target.told == ["a", "b", "c"]
