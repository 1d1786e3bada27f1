import asyncio
import os
import sys
import threading

import pytest

from common.errors import OverloadedError
from common.pools import open_pool, step_back
from tests.waiting import PATIENCE_S


class TestBoundedPool:
    async def test_returns_what_the_work_returns_from_another_thread(self) -> None:
        async with open_pool("test", workers=1, queue=1) as pool:
            thread = await pool.run(threading.current_thread)

        assert thread is not threading.current_thread()
        assert thread.name.startswith("test")

    async def test_raises_what_the_work_raises_and_goes_on(self) -> None:
        async with open_pool("test", workers=1, queue=1) as pool:
            with pytest.raises(ZeroDivisionError):
                await pool.run(lambda: 1 // 0)

            assert await pool.run(lambda: 2) == 2

    async def test_leaves_the_event_loop_free(self) -> None:
        free = threading.Event()
        async with open_pool("test", workers=1, queue=1) as pool:
            waiting = asyncio.create_task(pool.run(lambda: free.wait(PATIENCE_S)))
            await asyncio.sleep(0)

            free.set()  # which it only comes to while the thread waits

            assert await waiting

    async def test_refuses_what_it_cannot_hold_and_says_why(self) -> None:
        free = threading.Event()
        async with open_pool("test", workers=1, queue=2, refusal="Too many are waiting.") as pool:
            waiting = [asyncio.create_task(pool.run(lambda: free.wait(PATIENCE_S))) for _ in range(3)]
            await asyncio.sleep(0)

            with pytest.raises(OverloadedError, match="Too many are waiting"):
                await pool.run(lambda: True)
            with pytest.raises(OverloadedError, match="Too many are waiting"):
                pool.refuse_if_full()

            free.set()
            assert await asyncio.gather(*waiting) == [True] * 3
            assert await pool.run(lambda: True)

    async def test_counts_work_whose_caller_has_gone_away_until_it_is_done(self) -> None:
        started, free = threading.Event(), threading.Event()

        def work() -> bool:
            started.set()
            return free.wait(PATIENCE_S)

        async with open_pool("test", workers=1, queue=0) as pool:
            gone = asyncio.create_task(pool.run(work))
            await asyncio.to_thread(started.wait, PATIENCE_S)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

            with pytest.raises(OverloadedError):
                await pool.run(work)

            free.set()

    async def test_ends_with_what_runs_and_drops_what_waits(self) -> None:
        free = threading.Event()
        async with open_pool("test", workers=1, queue=2) as pool:
            running = asyncio.create_task(pool.run(lambda: free.wait(PATIENCE_S)))
            waiting = asyncio.create_task(pool.run(lambda: True))
            await asyncio.sleep(0)
            waiting.add_done_callback(lambda _: free.set())

        assert await running
        assert waiting.cancelled()


def priority() -> int:
    """Return the niceness of the running thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
class TestNiceness:
    async def test_is_that_of_the_pools_threads_and_of_no_others(self) -> None:
        ours = priority()

        async with open_pool("test", workers=2, queue=2, niceness=15) as pool:
            together = threading.Barrier(2)  # so that each thread does one of the two
            theirs = await asyncio.gather(
                *(pool.run(lambda: (together.wait(PATIENCE_S), priority())[1]) for _ in range(2))
            )

        assert theirs == [max(15, ours)] * 2
        assert priority() == ours

    async def test_is_nobodys_unless_it_is_asked_for(self) -> None:
        async with open_pool("test", workers=1, queue=1) as pool:
            assert await pool.run(priority) == priority()

    async def test_is_never_less_than_it_was(self) -> None:
        async with open_pool("test", workers=1, queue=1, niceness=10) as pool:
            await pool.run(lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19))
            await pool.run(lambda: step_back(10))

            assert await pool.run(priority) == 19
