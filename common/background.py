"""Endless work beside the requests: started with the service, restarted when it fails, stopped with the service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

RESTART_S = 1.0
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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(loop: Loop) -> None:
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001 - the boundary: background work has nobody else to tell
            _log.exception("background.failed", loop=getattr(loop, "__qualname__", "unknown"))
        await asyncio.sleep(RESTART_S)
