from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_service.features.store import VelocityStore
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
        store, plain = VelocityStore(), PlainCustomer()
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
        store = VelocityStore()
        accepted = make_accepted()
        first = store.observe(accepted, NOWHERE)

        again = store.observe(accepted, NOWHERE)
        store.saved(accepted.institution_id, ["tx-1"])
        after = store.observe(accepted, NOWHERE)

        assert again is first
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1
        other = store.observe(make_accepted(transaction_id="tx-2"), NOWHERE)
        assert other.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1

    def test_another_transaction_by_an_id_that_was_not_saved_is_read_and_counted_for_itself(self) -> None:
        store = VelocityStore()
        for number in range(3):
            store.observe(make_accepted(transaction_id=f"tx-{number}"), NOWHERE)
        store.observe(make_accepted(transaction_id="again"), NOWHERE)

        other = store.observe(make_accepted(transaction_id="again", customer_id="customer-2"), NOWHERE)
        after = store.observe(make_accepted(transaction_id="next", customer_id="customer-2"), NOWHERE)

        assert other.values[Entity.CUSTOMER, Reading.COUNT_1H] == 0
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1

    def test_keeps_institutions_apart(self) -> None:
        store = VelocityStore()
        store.observe(make_accepted(), NOWHERE)

        reading = store.observe(make_accepted(institution=LIVE), NOWHERE)

        assert reading.values[Entity.CUSTOMER, Reading.COUNT_30D] == 0
        assert reading.observed_sequence == 1

    def test_scores_but_does_not_count_what_is_older_than_the_longest_window(self) -> None:
        store = VelocityStore()
        now = START + timedelta(days=31)

        late = store.observe(make_accepted(event_time=START.isoformat(), now=now), NOWHERE)
        next_one = store.observe(make_accepted(transaction_id="tx-2", event_time=now.isoformat()), NOWHERE)

        assert not late.counted
        assert next_one.values[Entity.CUSTOMER, Reading.KNOWN] == 1

    def test_tells_an_unnamed_entity_from_a_new_one(self) -> None:
        reading = VelocityStore().observe(make_accepted(device_id=None), NOWHERE)

        assert reading.values[Entity.DEVICE, Reading.KNOWN] == 0
        assert reading.values[Entity.CUSTOMER, Reading.KNOWN] == 1

    def test_remembers_the_last_place(self) -> None:
        store = VelocityStore()
        berlin = GeoLocation(status=GeoStatus.FOUND, country="DE", latitude=52.52, longitude=13.405)
        store.observe(make_accepted(), berlin)

        values = store.observe(make_accepted(transaction_id="tx-2"), NOWHERE).values[Entity.CUSTOMER]

        assert values[Reading.LAST_LATITUDE_E6] == 52_520_000
        assert values[Reading.LAST_LONGITUDE_E6] == 13_405_000

    def test_grows_and_keeps_every_count(self) -> None:
        store = VelocityStore()
        for number in range(6000):
            store.observe(
                make_accepted(transaction_id=f"tx-{number}", customer_id=f"customer-{number}"), NOWHERE
            )

        reading = store.observe(make_accepted(transaction_id="last", customer_id="customer-17"), NOWHERE)

        assert reading.values[Entity.CUSTOMER, Reading.COUNT_30D] == 1
        assert reading.values[Entity.MERCHANT, Reading.COUNT_30D] == 6000

    @pytest.mark.parametrize("late_s", [KEEP_EXACT_US // 1_000_000 + 1, 40 * 86_400])
    def test_takes_very_late_events_without_harm(self, late_s: int) -> None:
        store = VelocityStore()
        store.observe(make_accepted(event_time=START.isoformat()), NOWHERE)
        late_time = START - timedelta(seconds=late_s)

        store.observe(make_accepted(transaction_id="late", event_time=late_time.isoformat()), NOWHERE)
        reading = store.observe(make_accepted(transaction_id="next", event_time=START.isoformat()), NOWHERE)

        assert reading.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1

    def test_a_copied_state_goes_on_with_the_same_bits(self) -> None:
        store = VelocityStore()
        for number in range(500):
            store.observe(make_accepted(transaction_id=f"tx-{number}"), NOWHERE)
        copy = VelocityStore(store.copy_state())

        readings = [each.observe(make_accepted(transaction_id="next"), NOWHERE) for each in (store, copy)]

        assert np.array_equal(readings[0].values, readings[1].values)
        assert readings[0].observed_sequence == readings[1].observed_sequence == 501
