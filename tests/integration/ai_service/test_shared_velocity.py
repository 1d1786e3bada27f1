"""The velocity state in Valkey gives the bits of the embedded one, whatever the stream."""

import asyncio
import signal
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkey.exceptions import ResponseError

from ai_service.features.definitions import ALL_FEATURES
from ai_service.features.store import EmbeddedVelocity, Located
from ai_service.features.velocity import (
    DAY_US,
    HOUR_US,
    KEEP_EXACT_US,
    LONG_EXACT_WINDOW_US,
    LONGEST_WINDOW_US,
    SHORT_WINDOW_US,
    Entity,
    Reading,
)
from common.contracts.geoip import GeoLocation
from common.valkey.calls import ValkeyAwayError
from tests.factories import LIVE, SANDBOX, make_accepted
from tests.integration.ai_service.shared import (
    Institutions,
    Shared,
    assert_same_readings,
    limited_user,
    names,
    open_shared_velocity,
    same,
)
from tests.servers import free_port
from tests.unit.ai_service.features.streams import NOWHERE, PLACES, Pace, stream
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import eventually

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
EDGES_US = (
    0,
    1,
    SHORT_WINDOW_US,
    LONG_EXACT_WINDOW_US,
    KEEP_EXACT_US,
    24 * HOUR_US,
    48 * HOUR_US,
    7 * DAY_US,
    30 * DAY_US,
    60 * DAY_US,
)


@pytest.fixture
async def shared(valkey_url: str) -> AsyncIterator[Shared]:
    async with open_shared_velocity(valkey_url) as opened:
        yield opened


def payment(
    number: int,
    *,
    ahead_us: int = 0,
    late_us: int = 0,
    amount_minor: int = 100,
    place: GeoLocation = NOWHERE,
    **changes: Any,  # noqa: ANN401 - any field
) -> Located:
    """Return a payment received `ahead_us` after the start, whose event was `late_us` before."""
    now = START + timedelta(microseconds=ahead_us)
    facts: dict[str, Any] = {
        "transaction_id": f"tx-{number}",
        "event_time": (now - timedelta(microseconds=late_us)).isoformat(),
        "now": now,
        **changes,
    }
    accepted = make_accepted(**facts)
    return replace(accepted, amount_base_minor=amount_minor), place


ages = st.one_of(
    st.integers(0, 10 * 60 * 1_000_000),
    st.integers(0, 3 * HOUR_US),
    st.integers(0, 4 * DAY_US),
    st.integers(0, 70 * DAY_US),
    st.builds(lambda edge, off: max(0, edge + off), st.sampled_from(EDGES_US), st.integers(-1, 1)),
)
amounts = st.one_of(
    st.integers(0, 10_000), st.sampled_from([10**15, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**62, 2**63 - 1])
)


class TestSameBits:
    @given(
        steps=st.lists(
            st.tuples(
                ages, ages, amounts, st.sampled_from(PLACES), st.integers(0, 2), st.booleans(), st.booleans()
            ),
            max_size=40,
        ),
        saved_each=st.integers(1, 3),
    )
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_for_late_equal_repeated_changed_and_huge_ones(
        self, shared: Shared, steps: list[tuple[int, int, int, GeoLocation, int, bool, bool]], saved_each: int
    ) -> None:
        await shared.calls.call("FLUSHDB")
        waiting, ahead_us = [], 0
        for number, (step_us, late_us, amount, place, who, is_repeat, is_live) in enumerate(steps):
            ahead_us += 0 if is_repeat else step_us
            waiting.append(
                payment(
                    max(0, number - 2) if is_repeat else number,
                    ahead_us=ahead_us,
                    late_us=late_us,
                    amount_minor=amount,
                    place=place,
                    customer_id=f"customer-{who}",
                    institution=LIVE if is_live else SANDBOX,
                )
            )

        await assert_same_readings(shared.store, waiting, together=4, saved_each=saved_each)

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
    async def test_for_long_streams(self, shared: Shared, seed: int, pace: Pace) -> None:
        await assert_same_readings(shared.store, list(stream(seed, 1500, pace)))

    async def test_for_a_merchant_with_thousands_of_events_some_of_them_late_and_after_a_silence(
        self, shared: Shared
    ) -> None:
        busy = list(stream(7, 2500, Pace(step_s=2, late_s=4000, late_share=0.3, things=1)))
        quiet = [
            payment(10_000 + number, ahead_us=3 * HOUR_US + number * hours * HOUR_US, late_us=late)
            for number, (hours, late) in enumerate([(0, 0), (1, 0), (1, HOUR_US), (30, 0)])
        ]

        await assert_same_readings(shared.store, [*busy, *quiet], together=32)

    async def test_of_every_feature(self, shared: Shared) -> None:
        embedded = EmbeddedVelocity()
        for each in stream(3, 300, Pace(step_s=900, late_s=5000)):
            accepted, location = each

            left, right = (await embedded.observe_all([each]))[0], (await shared.store.observe_all([each]))[0]

            vectors = [
                ALL_FEATURES.build(accepted, location=location, velocity=reading) for reading in (left, right)
            ]
            assert vectors[0].tobytes() == vectors[1].tobytes()

    async def test_where_sums_pass_what_64_bits_hold(self, shared: Shared) -> None:
        waiting = [payment(number, ahead_us=number, amount_minor=2**62) for number in range(9)]

        await assert_same_readings(shared.store, waiting, together=1)

        last = (await shared.store.observe_all([payment(99, ahead_us=99)]))[0]
        assert last.values[Entity.CUSTOMER, Reading.SUM_1H] == 2**62  # 9 x 2^62 modulo 2^64


class TestReadings:
    async def test_all_who_ask_for_one_transaction_at_once_read_the_same_and_it_is_counted_once(
        self, valkey_url: str
    ) -> None:
        async with (
            open_shared_velocity(valkey_url) as one,
            open_shared_velocity(valkey_url) as two,
            open_shared_velocity(valkey_url) as three,
        ):
            stores = [one.store, two.store, three.store]

            found = await asyncio.gather(
                *(stores[number % 3].observe_all([payment(1)]) for number in range(60))
            )
            after = (await one.store.observe_all([payment(2)]))[0]

        assert all(same(each[0], found[0][0]) for each in found)
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1
        assert after.observed_sequence == 2

    async def test_another_process_gives_the_reading_again_until_the_decision_is_saved(
        self, valkey_url: str
    ) -> None:
        async with open_shared_velocity(valkey_url) as one, open_shared_velocity(valkey_url) as two:
            first = (await one.store.observe_all([payment(1)]))[0]

            again = (await two.store.observe_all([payment(1)]))[0]
            one.store.saved(names([payment(1)]))
            await one.store.drain()
            after = (await two.store.observe_all([payment(1)]))[0]

        assert same(first, again)
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 1

    async def test_what_is_wrong_with_one_is_raised_and_the_others_are_not_counted_twice(
        self, shared: Shared
    ) -> None:
        wrong = payment(2, amount_minor=2**64)

        with pytest.raises(struct.error):
            await shared.store.observe_all([payment(1), wrong, payment(3)])
        again = await shared.store.observe_all([payment(1), payment(3)])

        assert [each.observed_sequence for each in again] == [1, 2]


class TestKeys:
    async def test_expire_and_name_nobody(self, shared: Shared) -> None:
        waiting = [payment(number, ahead_us=number) for number in range(600)]

        await shared.store.observe_all(waiting)

        keys = await shared.calls.call("KEYS", "*")
        lasting = [key for key in keys if await shared.calls.call("PTTL", key) < 0]
        assert lasting == [b"assay:{ins_test}:velocity:v1:state"]
        for secret in (b"customer-1", b"merchant-1", b"tok_1", b"device-1", b"81.2.69.160", b"5102", b"tx-"):
            assert not [key for key in keys if secret in key.split(b"}", 1)[1]]

    async def test_of_an_entity_outlive_what_they_mean_by_a_day_and_not_by_much_more(
        self, shared: Shared
    ) -> None:
        await shared.store.observe_all([payment(1, late_us=10 * DAY_US)])

        for key in await shared.calls.call("KEYS", "*:????????:[es]*"):
            left_us = 1000 * await shared.calls.call("PTTL", key)
            assert LONGEST_WINDOW_US - 10 * DAY_US < left_us <= LONGEST_WINDOW_US - 9 * DAY_US + 1000

    async def test_an_entity_of_which_a_part_was_evicted_is_read_as_never_seen(self, shared: Shared) -> None:
        await shared.store.observe_all([payment(number, ahead_us=number) for number in range(600)])
        keys = await shared.calls.call("KEYS", "*:e*")
        by_minute = [key for key in keys if await shared.calls.call("TYPE", key) in {b"hash", "hash"}]

        await shared.calls.call("UNLINK", *by_minute)
        found = await shared.store.observe_all([payment(1000, ahead_us=1000), payment(1001, ahead_us=1001)])

        assert found[0].values[Entity.CUSTOMER].tolist() == [1] + [0] * 15
        assert found[1].values[Entity.CUSTOMER, Reading.COUNT_1H] == 1


class TestAway:
    async def test_nothing_is_known_and_after_some_failures_nobody_waits(self) -> None:
        with running_valkey() as server:
            port = server.port
        async with open_shared_velocity(f"valkey://127.0.0.1:{port}/0") as shared:
            for _ in range(3):
                found = await shared.store.observe_all([payment(1), payment(2)])

            assert [each.observed_sequence for each in found] == [None, None]
            assert not any(each.values.any() for each in found)
            assert shared.circuit.is_open

    async def test_a_server_that_stands_still_costs_the_timeout_and_no_more_after_that(
        self, still_server: ValkeyServer
    ) -> None:
        async with open_shared_velocity(still_server.url, timeout_s=0.05) as shared:
            for _ in range(5):
                found = await shared.store.observe_all([payment(1)])

            assert found[0].observed_sequence is None
            assert shared.circuit.is_open

    async def test_what_valkey_has_no_room_for_is_not_known(self) -> None:
        with running_valkey("--maxmemory-policy", "noeviction") as server:
            async with open_shared_velocity(server.url) as shared:
                known = (await shared.store.observe_all([payment(1)]))[0]
                await shared.calls.call("CONFIG", "SET", "maxmemory", 1_000_000)  # less than it has already

                found = (await shared.store.observe_all([payment(2)]))[0]

        assert known.observed_sequence == 1
        assert found.observed_sequence is None


@pytest.fixture
def still_server() -> Iterator[ValkeyServer]:
    with running_valkey() as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            yield server
        finally:
            server.process.send_signal(signal.SIGCONT)


class TestState:
    async def test_that_is_gone_is_not_taken_for_one_in_which_nobody_was_seen(self, valkey_url: str) -> None:
        institutions = Institutions()
        async with open_shared_velocity(valkey_url, institutions=institutions) as shared:
            await shared.store.observe_all([payment(1)])
            institutions.with_decisions.add("ins_test")
            await shared.calls.call("FLUSHALL")

            found = await shared.store.observe_all([payment(2), payment(3, institution=LIVE)])

        assert [each.observed_sequence for each in found] == [None, 1]

    async def test_decisions_that_were_counted_in_one_that_is_gone_are_told(self, valkey_url: str) -> None:
        async with open_shared_velocity(valkey_url) as shared:
            await shared.store.observe_all([payment(1), payment(2)])
            await shared.calls.call("FLUSHALL")
            await shared.store.observe_all([payment(3)])

            shared.store.saved(names([payment(1), payment(2), payment(3)]))
            await shared.store.drain()

            assert shared.institutions.uncounted == [("ins_test", "tx-1"), ("ins_test", "tx-2")]


class TestFence:
    async def test_keeps_everybody_from_observing_until_another_generation_is_in_use(
        self, valkey_url: str
    ) -> None:
        institutions = Institutions()
        async with open_shared_velocity(valkey_url, institutions=institutions) as shared:
            store, keys = shared.store, shared.store.keys_of("ins_test")
            await store.observe_all([payment(1)])
            institutions.with_decisions.add("ins_test")
            await shared.calls.call("SET", keys.lease, "mine")

            unfenced = await store.call("switch", [keys.state, keys.lease], b"mine", b"newer", 7)
            of_another = await store.call("fence", [keys.state, keys.lease], b"theirs")
            fenced = await store.call("fence", [keys.state, keys.lease], b"mine")
            behind = (await store.observe_all([payment(2)]))[0]
            store.saved(names([payment(1)]))
            await store.drain()
            switched = await store.call("switch", [keys.state, keys.lease], b"mine", b"newer", 7)
            after = (await store.observe_all([payment(3)]))[0]

        assert (unfenced, of_another, fenced, switched) == (0, 0, 1, 1)
        assert behind.observed_sequence is None
        assert institutions.uncounted == [("ins_test", "tx-1")]
        assert after.observed_sequence == 8
        assert after.values[Entity.CUSTOMER, Reading.COUNT_1H] == 0


class TestWhatValkeyMustAllow:
    async def test_a_user_with_the_commands_of_the_documentation_is_enough(
        self, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        url = limited_user(valkey_server)

        async with open_shared_velocity(url) as shared:
            await assert_same_readings(shared.store, list(stream(1, 700, Pace(step_s=1, things=1))))
            shared.store.saved(names([payment(1)]))
            await shared.store.drain()

    async def test_a_cluster_takes_every_call(self) -> None:
        with running_valkey("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            async with open_shared_velocity(server.url) as shared:
                await eventually(lambda: _is_formed(shared))
                await assert_same_readings(shared.store, list(stream(2, 700, Pace(step_s=1, things=1))))


async def _is_formed(shared: Shared) -> bool:
    try:
        await shared.calls.call("SET", "assay:formed", "yes")
    except (ResponseError, ValkeyAwayError):
        return False
    return True
