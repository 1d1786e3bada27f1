import asyncio

import pytest

from common.errors import UnavailableError
from external_apis_services.geoip.faults import FaultInjector
from external_apis_services.geoip.schemas import MockFaults


async def outcomes(injector: FaultInjector, calls: int) -> list[bool]:
    """Return for each call whether it went through."""
    found = []
    for _ in range(calls):
        try:
            await injector.strike()
            found.append(True)
        except UnavailableError:
            found.append(False)
    return found


class TestFaultInjector:
    async def test_lets_every_call_through_when_nothing_is_set(self) -> None:
        assert all(await outcomes(FaultInjector(MockFaults()), 50))

    async def test_fails_every_call_in_an_outage(self) -> None:
        assert not any(await outcomes(FaultInjector(MockFaults(outage=True)), 50))

    @pytest.mark.parametrize(
        ("rate", "failures"), [(0.1, 100), (0.25, 250), (1 / 3, 333), (0.007, 7), (1, 1000)]
    )
    async def test_fails_exactly_the_share_of_calls_that_is_set(self, rate: float, failures: int) -> None:
        went_through = await outcomes(FaultInjector(MockFaults(error_rate=rate)), 1000)

        assert went_through.count(False) == failures

    async def test_spreads_failures_evenly_and_alike_in_every_run(self) -> None:
        faults = MockFaults(error_rate=0.25)

        assert await outcomes(FaultInjector(faults), 8) == [True, True, True, False] * 2

    async def test_counts_anew_when_set_again(self) -> None:
        injector = FaultInjector(MockFaults(error_rate=0.5))
        assert await outcomes(injector, 1) == [True]

        injector.set(MockFaults(error_rate=0.5))

        assert await outcomes(injector, 2) == [True, False]

    async def test_waits_before_it_answers_or_fails(self) -> None:
        injector = FaultInjector(MockFaults(latency_ms=60_000, outage=True))

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await injector.strike()

    async def test_lets_waiting_calls_overlap(self) -> None:
        injector = FaultInjector(MockFaults(latency_ms=50))

        async with asyncio.timeout(2):
            await asyncio.gather(*(injector.strike() for _ in range(200)))
