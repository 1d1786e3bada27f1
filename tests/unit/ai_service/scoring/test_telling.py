import asyncio

import pytest

from ai_service.scoring.telling import SLOW_S, Telling
from common.circuit import Circuit
from common.delivery import Delivery

DELIVERED = Delivery("audit", delivered=True)
NOT_TRIED = Delivery("audit", delivered=False, error="not tried")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Target:
    """Answers when it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.answers = asyncio.Event()
        self.asked = asyncio.Event()

    async def __call__(self) -> Delivery:
        self.calls += 1
        self.asked.set()
        await self.answers.wait()
        return DELIVERED


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telling(clock: Clock) -> Telling:
    return Telling("audit", Circuit("audit-test", failures_to_open=1), clock=clock)


class TestTelling:
    async def test_reports_what_became_of_the_call(self, telling: Telling) -> None:
        target = Target()
        target.answers.set()

        assert await telling.tell(target) == DELIVERED

    async def test_while_a_call_is_slow_others_are_not_kept_waiting(
        self, telling: Telling, clock: Clock
    ) -> None:
        target = Target()
        first = asyncio.create_task(telling.tell(target))
        await target.asked.wait()
        clock.now = SLOW_S * 2

        second = await telling.tell(target)
        worth_it = telling.is_worth_it
        target.answers.set()

        assert (second, worth_it) == (NOT_TRIED, False)
        assert await first == DELIVERED
        assert target.calls == 1
        assert telling.is_worth_it

    async def test_a_call_that_has_just_begun_holds_up_nobody(self, telling: Telling) -> None:
        target = Target()
        calls = [asyncio.create_task(telling.tell(target)) for _ in range(2)]
        await target.asked.wait()
        target.answers.set()

        assert await asyncio.gather(*calls) == [DELIVERED, DELIVERED]

    async def test_nothing_is_tried_while_the_circuit_is_open(self) -> None:
        circuit = Circuit("audit-test", failures_to_open=1)
        telling, target = Telling("audit", circuit), Target()
        circuit.failed()

        assert await telling.tell(target) == NOT_TRIED
        assert target.calls == 0
        assert not telling.is_worth_it

    async def test_an_error_is_a_failed_delivery_and_holds_nothing_up(self, telling: Telling) -> None:
        async def broken() -> Delivery:
            raise KeyError("secret")

        assert await telling.tell(broken) == Delivery("audit", delivered=False, error="KeyError")
        assert telling.is_worth_it
