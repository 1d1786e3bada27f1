import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from common import background
from common.background import end, running
from tests.waiting import PATIENCE_S


class Loop:
    """Counts its starts; fails as often as it is told to, then runs until it is stopped."""

    def __init__(self, *, failures: int = 0, ends: int = 0) -> None:
        self.failures = failures
        self.ends = ends
        self.starts = 0
        self.settled = asyncio.Event()
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise OSError("canary")
        if self.starts <= self.ends:
            return
        self.settled.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()


class TestRunning:
    async def test_runs_while_the_block_runs_and_is_stopped_with_it(self) -> None:
        loops = [Loop(), Loop()]

        async with running(*(loop.run for loop in loops)), asyncio.timeout(PATIENCE_S):
            for loop in loops:
                await loop.settled.wait()

        assert [(loop.starts, loop.stopped.is_set()) for loop in loops] == [(1, True)] * 2

    async def test_stops_when_the_block_fails(self) -> None:
        loop = Loop()

        async def serve_until_it_fails() -> None:
            async with running(loop.run), asyncio.timeout(PATIENCE_S):
                await loop.settled.wait()
                raise ValueError("the service failed")

        with pytest.raises(ValueError, match="the service failed"):
            await serve_until_it_fails()

        assert loop.stopped.is_set()

    async def test_starts_a_failing_loop_again_and_says_so(self) -> None:
        loop, healthy = Loop(failures=1), Loop()

        with capture_logs() as lines:
            async with running(loop.run, healthy.run), asyncio.timeout(PATIENCE_S):
                await loop.settled.wait()

        assert loop.starts == 2
        assert healthy.starts == 1
        assert [(line["event"], line["loop"]) for line in lines] == [("background.failed", "Loop.run")]

    async def test_starts_a_loop_that_ended_again(self) -> None:
        loop = Loop(ends=1)

        async with running(loop.run), asyncio.timeout(PATIENCE_S):
            await loop.settled.wait()

        assert loop.starts == 2

    async def test_stops_one_that_waits_to_be_started_again(self) -> None:
        loop = Loop(failures=99)

        async with asyncio.timeout(PATIENCE_S), running(loop.run):
            await asyncio.sleep(0)

        assert loop.starts == 1


class TestEnd:
    async def test_cancels_again_what_lost_a_cancellation_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(background, "CANCEL_AGAIN_S", 0.01)
        begun = asyncio.Event()

        async def loses_the_first() -> None:
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

        task = asyncio.create_task(loses_the_first())
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
            with capture_logs() as lines:
                await end([task])

        assert task.cancelled()
        assert [line["event"] for line in lines] == ["background.went_on"]

    async def test_is_not_told_what_tasks_raise(self) -> None:
        async def fails() -> None:
            raise OSError("canary")

        task = asyncio.create_task(fails())
        await asyncio.sleep(0)

        await end([task])

        assert isinstance(task.exception(), OSError)
