"""Collects concurrent items and passes them on together: one commit, one request, one fsync for all who wait."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

import structlog

from common.errors import OverloadedError
from common.logging import leave_request
from common.metrics import BATCH_SIZE, QUEUE_LENGTH, follow

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Results = Sequence[ResultT | Exception]
Process = Callable[[Sequence[ItemT]], Awaitable[Results[ResultT] | asyncio.Task[Results[ResultT]]]]
_Waiting = tuple[ItemT, asyncio.Future[ResultT]]
_log = structlog.get_logger()


class Batches(Generic[ItemT, ResultT]):
    """Hands waiting items to `process` as batches, at most `lanes` of them at a time.

    `process` answers each item with its own result or error, in order. Where the rest of a batch's work should hold
    up nobody else, it returns a task that will: the lane goes on with the next batch at once. An item that was taken
    is processed even when the one who waits for it goes away. Items beyond `max_waiting` are refused with
    `OverloadedError`.
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
        self._waiting: deque[_Waiting[ItemT, ResultT]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._later: set[asyncio.Task[Results[ResultT]]] = set()
        self._size = BATCH_SIZE.labels(name)
        follow(QUEUE_LENGTH.labels(name), lambda: len(self._waiting))

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
        while self._running or self._later:
            await asyncio.wait({*self._running, *self._later})

    async def _run_lane(self) -> None:
        leave_request()  # a batch belongs to nobody's request
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
            try:
                results = await self._process([item for item, _ in batch])
            except asyncio.CancelledError:
                for _, waiter in batch:
                    waiter.cancel()
                raise
            except Exception as error:  # noqa: BLE001 - the boundary: every waiter gets the error as its own result
                _settle(batch, error)
                continue
            if isinstance(results, asyncio.Task):
                self._settle_later(batch, results)
            else:
                _settle(batch, results)

    def _settle_later(
        self, batch: Sequence[_Waiting[ItemT, ResultT]], task: asyncio.Task[Results[ResultT]]
    ) -> None:
        def settle(ended: asyncio.Task[Results[ResultT]]) -> None:
            self._later.discard(ended)
            if ended.cancelled():
                for _, waiter in batch:
                    waiter.cancel()
            else:
                error = ended.exception()
                _settle(batch, error if isinstance(error, Exception) else ended.result())

        self._later.add(task)
        task.add_done_callback(settle)


def _settle(batch: Sequence[_Waiting[ItemT, ResultT]], results: Results[ResultT] | Exception) -> None:
    """Give every waiter of `batch` its own result or error; an error of the whole batch is everybody's."""
    if not isinstance(results, Exception) and len(results) != len(batch):
        results = ValueError("not one result for each item")
    if isinstance(results, Exception):
        _log.error("batch.failed", items=len(batch), exc_info=results)
        results = [results] * len(batch)
    for (_, waiter), result in zip(batch, results, strict=True):
        if waiter.done():
            continue
        if isinstance(result, Exception):
            waiter.set_exception(result)
        else:
            waiter.set_result(result)
