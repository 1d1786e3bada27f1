import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.state import POOLS, GrowingRows, StateArrays, empty_state
from ai_service.features.store import EmbeddedVelocity
from ai_service.features.velocity import (
    DAY_US,
    HOUR_US,
    KEEP_EXACT_US,
    LONG_EXACT_WINDOW_US,
    SHORT_WINDOW_US,
    Entity,
    Reading,
)
from common.contracts.geoip import GeoLocation, GeoStatus
from tests.factories import LIVE, make_accepted
from tests.unit.ai_service.features.plain_velocity import PlainVelocity
from tests.unit.ai_service.features.streams import Pace, stream

NOWHERE = GeoLocation(status=GeoStatus.UNKNOWN)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class PlainCustomer:
    """The definition of the windows, written out over a list of (time, amount) in the order of observation."""

    events: list[tuple[int, int]] = field(default_factory=list)

    def read(self, time: int) -> list[int]:
        exact = [
            [amount for when, amount in self.events if time - width < when <= time]
            for width in (SHORT_WINDOW_US, LONG_EXACT_WINDOW_US)
        ]
        buckets = [
            [amount for when, amount in self.events if time // unit - count < when // unit <= time // unit]
            for unit, count in ((HOUR_US, 24), (DAY_US, 7), (DAY_US, 30))
        ]
        return [number for amounts in exact + buckets for number in (len(amounts), sum(amounts))]


class TestVelocityStore:
    @given(
        steps=st.lists(
            st.tuples(
                st.one_of(
                    st.integers(0, 600), st.integers(0, 3600), st.integers(0, 90_000), st.integers(0, 400_000)
                ),
                st.integers(0, 3500),
                st.integers(0, 10_000),
            ),
            max_size=60,
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_reads_what_the_definition_says_also_for_late_events(
        self, steps: list[tuple[int, int, int]]
    ) -> None:
        store, plain = EmbeddedVelocity(), PlainCustomer()
        newest = START
        for number, (ahead_s, late_s, amount) in enumerate(steps):
            newest += timedelta(seconds=ahead_s)
            event_time = newest - timedelta(seconds=late_s)
            accepted = make_accepted(
                transaction_id=f"tx-{number}", event_time=event_time.isoformat(), amount=f"{amount}.00"
            )

            values = store.observe(accepted, NOWHERE).values[Entity.CUSTOMER]

            assert values[Reading.COUNT_5M : Reading.FIRST_TIME].tolist() == plain.read(
                accepted.event_time_us
            )
            plain.events.append((accepted.event_time_us, amount * 100))

    def test_gives_the_first_reading_again_until_the_decision_is_saved(self) -> None:
        store = EmbeddedVelocity()
        accepted = make_accepted()
        first = store.observe(accepted, NOWHERE)

        again = store.observe(accepted, NOWHERE)
        store.saved([(accepted.institution_id, "tx-1")])
        after = store.observe(accepted, NOWHERE)

        assert again is first
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1
        other = store.observe(make_accepted(transaction_id="tx-2"), NOWHERE)
        assert other.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1

    def test_another_transaction_by_an_id_that_was_not_saved_is_read_and_counted_for_itself(self) -> None:
        store = EmbeddedVelocity()
        for number in range(3):
            store.observe(make_accepted(transaction_id=f"tx-{number}"), NOWHERE)
        store.observe(make_accepted(transaction_id="again"), NOWHERE)

        other = store.observe(make_accepted(transaction_id="again", customer_id="customer-2"), NOWHERE)
        after = store.observe(make_accepted(transaction_id="next", customer_id="customer-2"), NOWHERE)

        assert other.values[Entity.CUSTOMER, Reading.COUNT_1H] == 0
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1

    def test_keeps_institutions_apart(self) -> None:
        store = EmbeddedVelocity()
        store.observe(make_accepted(), NOWHERE)

        reading = store.observe(make_accepted(institution=LIVE), NOWHERE)

        assert reading.values[Entity.CUSTOMER, Reading.COUNT_30D] == 0
        assert reading.observed_sequence == 1

    def test_scores_but_does_not_count_what_is_older_than_the_longest_window(self) -> None:
        store = EmbeddedVelocity()
        now = START + timedelta(days=31)

        late = store.observe(make_accepted(event_time=START.isoformat(), now=now), NOWHERE)
        next_one = store.observe(make_accepted(transaction_id="tx-2", event_time=now.isoformat()), NOWHERE)

        assert not late.counted
        assert next_one.values[Entity.CUSTOMER, Reading.KNOWN] == 1

    def test_tells_an_unnamed_entity_from_a_new_one(self) -> None:
        reading = EmbeddedVelocity().observe(make_accepted(device_id=None), NOWHERE)

        assert reading.values[Entity.DEVICE, Reading.KNOWN] == 0
        assert reading.values[Entity.CUSTOMER, Reading.KNOWN] == 1

    def test_remembers_the_last_place(self) -> None:
        store = EmbeddedVelocity()
        berlin = GeoLocation(status=GeoStatus.FOUND, country="DE", latitude=52.52, longitude=13.405)
        store.observe(make_accepted(), berlin)

        values = store.observe(make_accepted(transaction_id="tx-2"), NOWHERE).values[Entity.CUSTOMER]

        assert values[Reading.LAST_LATITUDE_E6] == 52_520_000
        assert values[Reading.LAST_LONGITUDE_E6] == 13_405_000

    def test_grows_and_keeps_every_count(self) -> None:
        store = EmbeddedVelocity()
        for number in range(6000):
            store.observe(
                make_accepted(transaction_id=f"tx-{number}", customer_id=f"customer-{number}"), NOWHERE
            )

        reading = store.observe(make_accepted(transaction_id="last", customer_id="customer-17"), NOWHERE)

        assert reading.values[Entity.CUSTOMER, Reading.COUNT_30D] == 1
        assert reading.values[Entity.MERCHANT, Reading.COUNT_30D] == 6000

    @pytest.mark.parametrize("late_s", [KEEP_EXACT_US // 1_000_000 + 1, 40 * 86_400])
    def test_takes_very_late_events_without_harm(self, late_s: int) -> None:
        store = EmbeddedVelocity()
        store.observe(make_accepted(event_time=START.isoformat()), NOWHERE)
        late_time = START - timedelta(seconds=late_s)

        store.observe(make_accepted(transaction_id="late", event_time=late_time.isoformat()), NOWHERE)
        reading = store.observe(make_accepted(transaction_id="next", event_time=START.isoformat()), NOWHERE)

        assert reading.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1


class TestAgainstPlainVelocity:
    @pytest.mark.parametrize(
        ("seed", "pace"),
        [
            (1, Pace(step_s=1)),
            (2, Pace(step_s=300, late_s=20_000)),
            (3, Pace(step_s=4000, late_s=40_000, late_share=0.4)),
            (4, Pace(step_s=100_000, late_s=2_000_000, late_share=0.5)),
            (5, Pace(step_s=400_000, late_s=3_000_000, things=12)),
        ],
    )
    def test_gives_the_same_bits_over_a_long_stream(self, seed: int, pace: Pace) -> None:
        store, plain = EmbeddedVelocity(), PlainVelocity()
        for accepted, location in stream(seed, 1500, pace):
            store.saved([(accepted.institution_id, accepted.transaction.transaction_id)])

            reading = store.observe(accepted, location)

            assert reading.values.tolist() == plain.observe(accepted, location)

    def test_gives_the_same_bits_where_events_are_so_many_that_they_are_indexed(self) -> None:
        store, plain = EmbeddedVelocity(), PlainVelocity()
        most_rings = 0
        paces = (Pace(step_s=1.5, late_s=1500, things=1), Pace(step_s=2000, things=1))
        for accepted, location in chain(stream(6, 3500, paces[0]), _later(stream(7, 200, paces[1]))):
            store.saved([(accepted.institution_id, accepted.transaction.transaction_id)])
            reading = store.observe(accepted, location)

            most_rings = max(most_rings, store.sizes()["rings"])
            assert reading.values.tolist() == plain.observe(accepted, location)

        assert most_rings > 0
        assert store.sizes()["rings"] == 0, "a ring is given back once there is little to index"


class TestUpkeep:
    def test_what_nobody_named_for_thirty_days_is_evicted(self) -> None:
        store = EmbeddedVelocity()
        for accepted, location in stream(1, 2000, Pace(step_s=3600, things=100_000)):
            store.observe(accepted, location)

        sizes = store.sizes()
        per_month = 30 * 24
        assert sizes["entities"] < 1.3 * per_month * 9
        assert sizes["transactions"] < 2 * per_month
        assert sizes["events"] <= sizes["entities"] + 20
        assert sizes["buckets"] < 3 * sizes["entities"]
        assert sizes["evicted"] > 2000

    def test_memory_for_what_was_evicted_is_used_again(self) -> None:
        store = EmbeddedVelocity()
        used = []
        for number, (accepted, location) in enumerate(stream(1, 6000, Pace(step_s=7200, things=100_000))):
            store.observe(accepted, location)
            if number % 2000 == 1999:
                state = store.copy_state()
                used.append([len(getattr(state, name)) for name in POOLS])

        assert used[1] == pytest.approx(used[0], rel=0.2)
        assert used[2] == pytest.approx(used[0], rel=0.2)

    def test_the_ids_that_were_seen_do_not_take_more_room_than_thirty_days_need(self) -> None:
        store = EmbeddedVelocity()
        for number in range(9000):
            event_time = START + timedelta(hours=number)
            store.observe(
                make_accepted(transaction_id=f"tx-{number}", event_time=event_time.isoformat()), NOWHERE
            )

        assert len(store.copy_state().seen) == len(empty_state().seen)


class TestCopyState:
    def test_goes_on_with_the_same_bits(self) -> None:
        store = EmbeddedVelocity()
        for accepted, location in stream(3, 1500, Pace(step_s=30, late_s=600, things=2)):
            store.observe(accepted, location)
        copy = EmbeddedVelocity(store.copy_state())

        for accepted, location in stream(4, 500, Pace(step_s=30, things=2)):
            readings = [each.observe(accepted, location) for each in (store, copy)]

            assert np.array_equal(readings[0].values, readings[1].values)
            assert readings[0].observed_sequence == readings[1].observed_sequence

    def test_is_the_state_of_one_moment_however_much_is_observed_meanwhile(self) -> None:
        store, observed = EmbeddedVelocity(), list(stream(5, 6000, Pace(step_s=1, late_s=60, things=20)))
        copies: list[StateArrays] = []

        def copy_again_and_again() -> None:
            while len(copies) < 6:
                copies.append(store.copy_state())

        for accepted, location in observed[:500]:
            store.observe(accepted, location)
        copier = threading.Thread(target=copy_again_and_again)
        copier.start()
        count = 500
        while copier.is_alive() and count < len(observed):
            store.observe(*observed[count])
            count += 1
        copier.join()

        assert [_observations(copy) for copy in copies] == sorted(_observations(copy) for copy in copies)
        assert 500 < _observations(copies[-1]) <= count
        for copy in copies:
            done = _observations(copy)
            replayed, restored = EmbeddedVelocity(), EmbeddedVelocity(copy)
            for accepted, location in observed[:done]:
                replayed.observe(accepted, location)
            for accepted, location in observed[done : done + 1000]:
                readings = [each.observe(accepted, location) for each in (replayed, restored)]
                assert readings[0].observed_sequence == readings[1].observed_sequence
                assert np.array_equal(readings[0].values, readings[1].values)

    def test_holds_the_first_reading_of_what_was_not_saved_so_that_a_retry_does_not_count_itself(
        self,
    ) -> None:
        store = EmbeddedVelocity()
        saved, unsaved = make_accepted(transaction_id="saved"), make_accepted(transaction_id="unsaved")
        store.observe(saved, NOWHERE)
        store.saved([(saved.institution_id, "saved")])
        first = store.observe(unsaved, NOWHERE)

        copy = EmbeddedVelocity(store.copy_state())
        retried = copy.observe(unsaved, NOWHERE)
        after = copy.observe(make_accepted(transaction_id="next"), NOWHERE)

        assert retried.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1
        assert np.array_equal(retried.values, first.values)
        assert retried.observed_sequence == first.observed_sequence
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 2

    def test_another_transaction_by_an_unsaved_id_is_counted_for_itself_after_a_restart_too(self) -> None:
        store = EmbeddedVelocity()
        store.observe(make_accepted(), NOWHERE)

        copy = EmbeddedVelocity(store.copy_state())
        copy.observe(make_accepted(customer_id="customer-2"), NOWHERE)
        after = copy.observe(make_accepted(transaction_id="tx-2", customer_id="customer-2"), NOWHERE)

        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1

    def test_what_was_saved_after_it_is_no_longer_unsaved_once_it_is_restored(self) -> None:
        store, accepted = EmbeddedVelocity(), make_accepted()
        store.observe(accepted, NOWHERE)

        copy = EmbeddedVelocity(store.copy_state())
        copy.restore(accepted, NOWHERE, observed_sequence=1)

        assert copy.copy_state().unsaved == {}
        reading = copy.observe(make_accepted(transaction_id="tx-2"), NOWHERE)
        assert reading.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1
        assert reading.observed_sequence == 2


class TestGrowingRows:
    def test_keep_what_they_hold_and_begin_with_zeros(self) -> None:
        begin = np.arange(12, dtype=np.int64).reshape(-1, 3)
        growing = GrowingRows(begin, rows=4)

        for rows in (5, 100_000):
            growing.grow(rows)

            assert growing.rows.shape == (rows, 3)
            assert np.array_equal(growing.rows[:4], begin)
            assert not growing.rows[4:].any()

    def test_leave_alone_the_rows_that_somebody_holds(self) -> None:
        begin = np.arange(12, dtype=np.int64).reshape(-1, 3)
        growing = GrowingRows(begin, rows=4)
        held = growing.rows

        growing.grow(100)
        growing.rows[0] = 7

        assert np.array_equal(held, begin)
        assert np.array_equal(growing.rows[1:4], begin[1:])


def _observations(state: StateArrays) -> int:
    return sum(state.sequences.values())


def _later(
    transactions: Iterator[tuple[AcceptedTransaction, GeoLocation]],
) -> Iterator[tuple[AcceptedTransaction, GeoLocation]]:
    """Let a stream follow another one: three hours on, and with ids of its own."""
    for accepted, location in transactions:
        moved = accepted.transaction.model_copy(
            update={
                "transaction_id": f"later-{accepted.transaction.transaction_id}",
                "event_time": accepted.transaction.event_time + timedelta(hours=3),
            }
        )
        yield (
            replace(accepted, transaction=moved, received_at=accepted.received_at + timedelta(hours=3)),
            location,
        )
