import asyncio

import pytest

from ai_service.scoring.in_flight import Answer, InFlight, TransactionIdReusedError
from tests.factories import make_transaction

ANSWER = Answer(b"{}", {}, replayed=False)


class TestInFlight:
    async def test_a_repeat_waits_for_the_first_and_is_a_replay(self) -> None:
        in_flight = InFlight()
        with in_flight.entry("ins", make_transaction()) as entry:
            running = in_flight.find("ins", make_transaction(amount="25.0"))
            assert running is not None
            waiter = asyncio.ensure_future(running)
            entry.set(ANSWER)

        repeated = await waiter

        assert repeated.body is ANSWER.body
        assert repeated.replayed

    async def test_the_same_id_with_another_body_is_refused(self) -> None:
        in_flight = InFlight()
        with in_flight.entry("ins", make_transaction()) as entry:
            with pytest.raises(TransactionIdReusedError):
                in_flight.find("ins", make_transaction(amount="26.00"))
            entry.set(ANSWER)

    async def test_another_institution_may_use_the_same_id(self) -> None:
        in_flight = InFlight()
        with in_flight.entry("ins", make_transaction()) as entry:
            assert in_flight.find("other", make_transaction()) is None
            entry.set(ANSWER)

        assert in_flight.find("ins", make_transaction()) is None

    async def test_those_who_wait_get_the_error_of_the_first(self) -> None:
        in_flight = InFlight()
        waiters: list[asyncio.Future[Answer]] = []

        def fail_while_another_waits() -> None:
            with in_flight.entry("ins", make_transaction()):
                running = in_flight.find("ins", make_transaction())
                assert running is not None
                waiters.append(asyncio.ensure_future(running))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail_while_another_waits()

        with pytest.raises(RuntimeError):
            await waiters[0]

    async def test_one_who_waits_may_go_away_without_harm(self) -> None:
        in_flight = InFlight()
        with in_flight.entry("ins", make_transaction()) as entry:
            running = in_flight.find("ins", make_transaction())
            assert running is not None
            waiter = asyncio.ensure_future(running)
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter

            assert entry.set(ANSWER) is ANSWER
