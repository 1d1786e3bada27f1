"""Threads for work that would hold up the event loop, a few of them and with a bounded queue in front."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
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

    async def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Return what `work` returns, or raise what it raises; raises `OverloadedError` when too many wait."""
        if self._pending >= self._limit:
            raise OverloadedError(self._refusal)
        self._pending += 1
        loop = asyncio.get_running_loop()
        job = self._threads.submit(work)
        # counted until the thread is done with it, also when its caller has gone away
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(job)

    def _done(self) -> None:
        self._pending -= 1


@asynccontextmanager
async def open_pool(name: str, *, workers: int, queue: int, refusal: str = "") -> AsyncIterator[BoundedPool]:
    """Yield a pool with threads of its own, which end with the block; `refusal` tells callers what it is that waits."""
    threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)
    try:
        yield BoundedPool(threads, limit=workers + queue, refusal=refusal)
    finally:
        await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)
