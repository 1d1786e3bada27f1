"""Collects concurrent items and passes them on together: one commit, one request, one fsync for all who wait."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

import structlog

from common.errors import OverloadedError
from common.metrics import BATCH_SIZE, QUEUE_LENGTH

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Process = Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]]
_log = structlog.get_logger()


class Batches(Generic[ItemT, ResultT]):
    """Hands waiting items to `process` as batches, at most `lanes` of them at a time.

    `process` answers each item with its own result or error, in order. An item that was taken is processed even
    when the one who waits for it goes away. Items beyond `max_waiting` are refused with `OverloadedError`.
    """

    def __init__(
        self,
        process: Process[ItemT, ResultT],
        *,
        name: str,
        lanes: int = 2,
        max_batch: int = 256,
        max_waiting: int = 1024,
    ) -> None:
        self._process = process
        self._lanes = lanes
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._places = 0
        self._waiting: deque[tuple[ItemT, asyncio.Future[ResultT]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._size = BATCH_SIZE.labels(name)
        self._length = QUEUE_LENGTH.labels(name)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the block runs, taken before any work is done in vain; raises `OverloadedError`.

        At most `max_waiting` places are held, from the first step of the work to its result.
        """
        if self._places >= self._max_waiting:
            raise OverloadedError
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    async def submit(self, item: ItemT) -> ResultT:
        """Return what became of `item`; raises its own error, or `OverloadedError` when too many wait."""
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError
        result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if len(self._running) < self._lanes:
            self._running.add(asyncio.create_task(self._run_lane()))
        return await result

    async def drain(self) -> None:
        """Wait until nothing is running or waiting."""
        while self._running:
            await asyncio.wait(self._running)

    async def _run_lane(self) -> None:
        structlog.contextvars.unbind_contextvars("request_id")  # a batch belongs to nobody's request
        try:
            await self._run_batches()
        finally:
            # in the same step in which it found nothing waiting: a done-callback runs one step later, and an item
            # that comes in between would see a lane that never looks again
            self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _run_batches(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
            self._size.observe(len(batch))
            self._length.set(len(self._waiting))
            try:
                results = await self._results([item for item, _ in batch])
            except asyncio.CancelledError:
                for _, waiter in batch:
                    waiter.cancel()
                raise
            for (_, waiter), result in zip(batch, results, strict=True):
                if waiter.done():
                    continue
                if isinstance(result, Exception):
                    waiter.set_exception(result)
                else:
                    waiter.set_result(result)

    async def _results(self, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        try:
            results = await self._process(items)
            if len(results) != len(items):
                raise ValueError("not one result for each item")  # noqa: TRY301 - told like any other failure
        except Exception as error:  # noqa: BLE001 - the boundary: every waiter gets the error as its own result
            _log.exception("batch.failed", items=len(items))
            return [error] * len(items)
        return results
