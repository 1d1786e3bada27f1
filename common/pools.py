"""Threads for work that would hold up the event loop, a few of them and with a bounded queue in front."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from common.errors import OverloadedError

ResultT = TypeVar("ResultT")


class BoundedPool:
    """Runs functions in threads. At most `limit` are running or waiting; the next one gets `OverloadedError`."""

    def __init__(self, threads: ThreadPoolExecutor, *, limit: int, refusal: str) -> None:
        self._threads = threads
        self._limit = limit
        self._refusal = refusal
        self._pending = 0

    def refuse_if_full(self) -> None:
        """Raise `OverloadedError` when `run` would: for those who have something to do before it."""
        if self._pending >= self._limit:
            raise OverloadedError(self._refusal)

    async def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Return what `work` returns, or raise what it raises; raises `OverloadedError` when too many wait."""
        self.refuse_if_full()
        self._pending += 1
        loop = asyncio.get_running_loop()
        job = self._threads.submit(work)
        # counted until the thread is done with it, also when its caller has gone away
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(job)

    def _done(self) -> None:
        self._pending -= 1


@asynccontextmanager
async def open_pool(
    name: str, *, workers: int, queue: int, refusal: str = "", niceness: int = 0
) -> AsyncIterator[BoundedPool]:
    """Yield a pool with threads of its own, which end with the block; `refusal` tells callers what it is that waits.

    With a `niceness` its threads let others go first (see `step_back`).
    """
    threads = ThreadPoolExecutor(
        max_workers=workers, thread_name_prefix=name, initializer=step_back, initargs=(niceness,)
    )
    try:
        yield BoundedPool(threads, limit=workers + queue, refusal=refusal)
    finally:
        await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)


def step_back(niceness: int) -> None:
    """Let the running thread have a smaller share of busy cores: Linux schedules threads, so it has a priority of its own.

    Elsewhere a priority is that of the whole process, and nothing is done.
    """
    if not niceness or sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # a sandbox may forbid it; the work is done all the same
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))
