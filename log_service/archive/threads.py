"""Blocking calls in threads that do not keep the process from ending: an archive that hangs must not either."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def in_daemon_thread(call: Callable[[], ResultT]) -> ResultT:
    """Return what `call` returns, or raise what it raises. A thread of its own costs 0.1 ms; the caller bounds how many.

    An executor would be joined when the process ends, for as long as its slowest call.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[ResultT] = loop.create_future()

    def run() -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - the boundary: the error belongs to the one who waits
            _tell(loop, done, lambda error=error: done.set_exception(error))  # type: ignore[misc]
        else:
            _tell(loop, done, lambda: done.set_result(result))

    threading.Thread(target=copy_context().run, args=(run,), name="s3", daemon=True).start()
    return await done


def _tell(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[ResultT]", tell: Callable[[], None]) -> None:
    def tell_who_waits() -> None:
        if not done.done():
            tell()

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(tell_who_waits)
