"""Endless work beside the requests: started with the service, restarted when it fails, stopped with the service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import structlog

RESTART_S = 1.0
CANCEL_AGAIN_S = 5.0
Loop = Callable[[], Awaitable[None]]
"""Work without an end."""
_log = structlog.get_logger()


@asynccontextmanager
async def running(*loops: Loop) -> AsyncIterator[None]:
    """Run `loops` while the block runs. One that raises is logged and started again after a second."""
    tasks = [asyncio.create_task(_keep_running(loop)) for loop in loops]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` and wait for their end, whatever they raise.

    One that went on is cancelled again: a library may lose a cancellation that comes in the moment in which what it
    waits for is done (`asyncio.wait_for` does before Python 3.12), and a service would never stop. So what a task does
    about its end has to be done within `CANCEL_AGAIN_S`.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        await asyncio.gather(*ended, return_exceptions=True)  # what they raised is nobody's any more
        if left:
            _log.warning("background.went_on", tasks=len(left))


async def _keep_running(loop: Loop) -> None:
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001 - the boundary: background work has nobody else to tell
            _log.exception("background.failed", loop=getattr(loop, "__qualname__", "unknown"))
        await asyncio.sleep(RESTART_S)
