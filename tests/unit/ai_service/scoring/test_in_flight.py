import asyncio

import pytest

from ai_service.scoring.in_flight import Answer, InFlight, TransactionIdReusedError
from common.contracts.transactions import Transaction
from tests.factories import make_transaction

ANSWER = Answer(b"{}", {}, replayed=False)


async def found(in_flight: InFlight, transaction: Transaction) -> Answer | None:
    running = in_flight.find("ins", transaction)
    assert running is not None
    return await running


class TestInFlight:
    async def test_a_repeat_waits_for_the_first_and_is_a_replay(self) -> None:
        in_flight = InFlight()
        with in_flight.entry("ins", make_transaction()) as entry:
            running = in_flight.find("ins", make_transaction(amount="25.0"))
            assert running is not None
            waiter = asyncio.ensure_future(running)
            entry.set(ANSWER)

        repeated = await waiter

        assert repeated is not None
        assert repeated.body is ANSWER.body
        assert repeated.replayed

    async def test_the_same_id_with_another_body_is_refused_once_the_first_is_answered(self) -> None:
        in_flight = InFlight()
        with in_flight.entry("ins", make_transaction()) as entry:
            waiter = asyncio.ensure_future(found(in_flight, make_transaction(amount="26.00")))
            await asyncio.sleep(0)
            entry.set(ANSWER)

        with pytest.raises(TransactionIdReusedError):
            await waiter

    async def test_the_same_id_with_another_body_is_tried_where_the_first_failed(self) -> None:
        in_flight = InFlight()
        waiters: list[asyncio.Future[Answer | None]] = []

        async def fail_while_another_waits() -> None:
            with in_flight.entry("ins", make_transaction(amount="26.00")):
                waiters.append(asyncio.ensure_future(found(in_flight, make_transaction())))
                await asyncio.sleep(0)
                raise TransactionIdReusedError  # it was the one whose body was another one

        with pytest.raises(TransactionIdReusedError):
            await fail_while_another_waits()

        assert await waiters[0] is None

    async def test_another_institution_may_use_the_same_id(self) -> None:
        in_flight = InFlight()
        with in_flight.entry("ins", make_transaction()) as entry:
            assert in_flight.find("other", make_transaction()) is None
            entry.set(ANSWER)

        assert in_flight.find("ins", make_transaction()) is None

    async def test_those_who_wait_get_the_error_of_the_first(self) -> None:
        in_flight = InFlight()
        waiters: list[asyncio.Future[Answer | None]] = []

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
