"""Waits for what another process or thread will bring about."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE_S = 60.0
"""How long a test waits for what must come before it counts as hanging, on however slow a machine; never what is asserted."""
ResultT = TypeVar("ResultT")


async def eventually(look: Callable[[], Awaitable[ResultT]], *, timeout_s: float = PATIENCE_S) -> ResultT:
    """Look again and again until what is seen counts as true, and return it."""
    async with asyncio.timeout(timeout_s):
        while not (seen := await look()):  # noqa: ASYNC110 - there is no event to wait for across processes
            await asyncio.sleep(0.02)
        return seen
