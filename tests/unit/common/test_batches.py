import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from common.batches import Batches, Results
from common.errors import OverloadedError
from tests.waiting import PATIENCE_S


class Doubler:
    """Doubles numbers; each batch waits for the gate, and odd behaviour can be asked for."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most_running = 0
        self.started = asyncio.Condition()

    async def process(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        async with self.started:
            self.started.notify_all()
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return [ValueError(f"{item} is negative") if item < 0 else item * 2 for item in items]

    async def until_started(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self.started:
            await self.started.wait_for(lambda: len(self.batches) >= count)


@pytest.fixture
async def doubler() -> Doubler:
    return Doubler()


@asynccontextmanager
async def submitted(batches: "Batches[int, int]", *items: int) -> AsyncIterator["list[asyncio.Task[int]]"]:
    """Submit `items` from a task each and let them reach the queue."""
    tasks = [asyncio.create_task(batches.submit(item)) for item in items]
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TestSubmit:
    async def test_answers_each_item_with_its_own_result(self, doubler: Doubler) -> None:
        batches = Batches(doubler.process, name="test")

        results = await asyncio.gather(*(batches.submit(number) for number in range(100)))

        assert results == [number * 2 for number in range(100)]

    async def test_answers_each_item_with_its_own_error(self, doubler: Doubler) -> None:
        batches = Batches(doubler.process, name="test")

        results = await asyncio.gather(*(batches.submit(n) for n in (1, -2, 3)), return_exceptions=True)

        assert results[0] == 2
        assert isinstance(results[1], ValueError)
        assert str(results[1]) == "-2 is negative"
        assert results[2] == 6

    async def test_items_that_come_together_share_a_batch(self, doubler: Doubler) -> None:
        batches = Batches(doubler.process, name="test", lanes=1)

        await asyncio.gather(*(batches.submit(number) for number in range(50)))

        assert doubler.batches == [list(range(50))]

    async def test_items_that_come_while_all_lanes_are_busy_share_the_next_batch(
        self, doubler: Doubler
    ) -> None:
        batches = Batches(doubler.process, name="test", lanes=1)
        doubler.gate.clear()
        async with submitted(batches, 1) as first:
            await doubler.until_started(1)
            async with submitted(batches, 2, 3, 4) as others:
                doubler.gate.set()
                await asyncio.gather(*first, *others)

        assert doubler.batches == [[1], [2, 3, 4]]

    async def test_a_batch_has_a_largest_size(self, doubler: Doubler) -> None:
        batches = Batches(doubler.process, name="test", lanes=1, max_batch=4)

        await asyncio.gather(*(batches.submit(number) for number in range(10)))

        assert [len(batch) for batch in doubler.batches] == [4, 4, 2]

    @pytest.mark.parametrize("lanes", [1, 2, 3])
    async def test_runs_as_many_batches_at_once_as_it_has_lanes(self, doubler: Doubler, lanes: int) -> None:
        batches = Batches(doubler.process, name="test", lanes=lanes, max_batch=1)
        doubler.gate.clear()
        async with submitted(batches, *range(10)) as tasks:
            await doubler.until_started(lanes)
            doubler.gate.set()
            await asyncio.gather(*tasks)

        assert doubler.most_running == lanes
        assert sorted(doubler.batches) == [[number] for number in range(10)]

    async def test_refuses_items_beyond_the_most_that_may_wait(self, doubler: Doubler) -> None:
        batches = Batches(doubler.process, name="test", lanes=1, max_batch=1, max_waiting=2)
        doubler.gate.clear()
        async with submitted(batches, 1) as first:
            await doubler.until_started(1)
            async with submitted(batches, 2, 3) as waiting:
                with pytest.raises(OverloadedError):
                    await batches.submit(4)
                doubler.gate.set()
                results = await asyncio.gather(*first, *waiting)

        assert results == [2, 4, 6]
        assert [4] not in doubler.batches

    @pytest.mark.parametrize("lanes", [1, 2])
    async def test_takes_the_next_item_of_one_who_was_just_answered(
        self, doubler: Doubler, lanes: int
    ) -> None:
        batches = Batches(doubler.process, name="test", lanes=lanes, max_batch=1, max_waiting=lanes)

        async def submit_many(first: int) -> list[int]:
            return [await batches.submit(first + number) for number in range(20)]

        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*(submit_many(100 * lane) for lane in range(lanes)))

        assert results == [[2 * (100 * lane + number) for number in range(20)] for lane in range(lanes)]

    async def test_processes_an_item_whose_waiter_went_away(self, doubler: Doubler) -> None:
        batches = Batches(doubler.process, name="test", lanes=1)
        doubler.gate.clear()
        async with submitted(batches, 1) as first:
            await doubler.until_started(1)
            async with submitted(batches, 2, 3) as (gone, stays):
                gone.cancel()
                doubler.gate.set()
                results = await asyncio.gather(*first, stays)

        assert results == [2, 6]
        assert doubler.batches == [[1], [2, 3]]


class TestFailingProcess:
    async def test_an_exception_reaches_all_who_wait_and_is_logged_once(self) -> None:
        async def fail(_items: Sequence[int]) -> Sequence[int]:
            raise OSError("the disk is full")

        batches = Batches(fail, name="test")

        with capture_logs() as lines:
            results = await asyncio.gather(*(batches.submit(n) for n in range(3)), return_exceptions=True)

        assert [str(result) for result in results] == ["the disk is full"] * 3
        assert [line["event"] for line in lines] == ["batch.failed"]

    async def test_the_next_batch_is_processed_all_the_same(self) -> None:
        async def fail_on_zero(items: Sequence[int]) -> Sequence[int]:
            return [1 // item for item in items]

        batches = Batches(fail_on_zero, name="test", lanes=1)
        with pytest.raises(ZeroDivisionError):
            await batches.submit(0)

        assert await batches.submit(1) == 1

    async def test_results_that_do_not_match_the_items_are_a_failure_and_nobody_waits_for_ever(self) -> None:
        async def forget_one(items: Sequence[int]) -> Sequence[int]:
            return items[1:]

        batches = Batches(forget_one, name="test")

        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*(batches.submit(n) for n in range(3)), return_exceptions=True)

        assert [str(result) for result in results] == ["not one result for each item"] * 3

    async def test_a_process_that_is_cancelled_cancels_those_who_wait(self) -> None:
        async def cancelled(_items: Sequence[int]) -> Sequence[int]:
            raise asyncio.CancelledError

        batches = Batches(cancelled, name="test")

        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*(batches.submit(n) for n in range(3)), return_exceptions=True)

        assert [type(result) for result in results] == [asyncio.CancelledError] * 3


class TestDrain:
    async def test_returns_at_once_when_nothing_runs(self, doubler: Doubler) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await Batches(doubler.process, name="test").drain()

    async def test_waits_for_what_runs_and_what_waits(self, doubler: Doubler) -> None:
        batches = Batches(doubler.process, name="test", lanes=1, max_batch=1)
        doubler.gate.clear()
        async with submitted(batches, 1, 2, 3) as tasks:
            await doubler.until_started(1)
            draining = asyncio.create_task(batches.drain())
            await asyncio.sleep(0)
            was_done = draining.done()
            doubler.gate.set()
            async with asyncio.timeout(PATIENCE_S):
                await draining

            assert not was_done
            assert doubler.batches == [[1], [2], [3]]
            assert [await task for task in tasks] == [2, 4, 6]


class TestLater:
    async def test_a_batch_that_goes_on_later_holds_up_no_other(self) -> None:
        slow = asyncio.Event()

        async def finish(items: Sequence[int]) -> Sequence[int | Exception]:
            await slow.wait()
            return [item * 2 for item in items]

        async def process(items: Sequence[int]) -> Results[int] | asyncio.Task[Results[int]]:
            return asyncio.create_task(finish(items)) if items == [1] else [item * 2 for item in items]

        batches = Batches(process, name="test", lanes=1, max_batch=1)
        async with submitted(batches, 1) as (first,), asyncio.timeout(PATIENCE_S):
            second = await batches.submit(2)
            waiting = not first.done()
            slow.set()

            assert (second, waiting, await first) == (4, True, 2)

    async def test_its_error_is_everybodys(self) -> None:
        async def fail() -> Sequence[int | Exception]:
            raise KeyError("broken")

        async def process(_items: Sequence[int]) -> asyncio.Task[Results[int]]:
            return asyncio.create_task(fail())

        batches = Batches(process, name="test")
        async with submitted(batches, 1, 2) as tasks, asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(result) for result in results] == [KeyError, KeyError]

    async def test_drain_waits_for_it(self) -> None:
        slow, told = asyncio.Event(), asyncio.Event()

        async def finish(items: Sequence[int]) -> Sequence[int | Exception]:
            await slow.wait()
            return list(items)

        async def process(items: Sequence[int]) -> asyncio.Task[Results[int]]:
            told.set()
            return asyncio.create_task(finish(items))

        batches = Batches(process, name="test")
        async with submitted(batches, 1) as (task,), asyncio.timeout(PATIENCE_S):
            await told.wait()
            draining = asyncio.create_task(batches.drain())
            await asyncio.sleep(0)
            drained_early = draining.done()
            slow.set()
            await draining

            assert not drained_early
            assert await task == 1
