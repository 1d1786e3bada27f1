"""One thread that owns the writing connection: jobs run one after another, each in one durable transaction."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from common.errors import UnavailableError

CHECK_AFTER_S = 5.0
ResultT = TypeVar("ResultT")
_Job = tuple[Callable[[Connection], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class DatabaseWriter:
    """Runs functions of a connection off the event loop and commits each before its caller hears of it.

    SQLite has one writer at a time anyway; a thread of its own costs one hand-over per job instead of one per
    statement. The connection is opened again after an error.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[Connection], ResultT]) -> ResultT:
        """Return what `job` returns, once its transaction is durable; raises what it or the commit raised.

        A caller that goes away does not stop its job. After `close` this raises `UnavailableError`.
        """
        if self._closed:
            raise UnavailableError("This service is stopping.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[ResultT] = loop.create_future()
        self._jobs.put((job, loop, done))
        return await asyncio.shield(done)

    async def close(self) -> None:
        """Finish the jobs that were handed in, then end the thread."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._engine.dispose()

    def _run(self) -> None:
        connection: Connection | None = None
        used_at = 0.0
        while (taken := self._jobs.get()) is not None:
            job, loop, done = taken
            try:
                if connection is not None and time.monotonic() - used_at > CHECK_AFTER_S:
                    _give_up(connection)  # the pool sees whether it still works
                    connection = None
                connection = connection or self._engine.connect()
                with connection.begin():
                    result = job(connection)
            except Exception as error:  # noqa: BLE001 - the boundary: the error belongs to the one who waits
                _give_up(connection)
                connection = None
                _answer(loop, _fail, done, error)
            else:
                _answer(loop, _finish, done, result)
            used_at = time.monotonic()
        _give_up(connection)


def _give_up(connection: Connection | None) -> None:
    """Close a connection that may be broken; the next job opens another."""
    if connection is not None:
        with suppress(Exception):
            connection.close()


def _answer(
    loop: asyncio.AbstractEventLoop,
    settle: Callable[["asyncio.Future[Any]", Any], None],
    *result: Any,  # noqa: ANN401
) -> None:
    with suppress(RuntimeError):  # the caller's loop is closed: nobody waits, and the thread goes on
        loop.call_soon_threadsafe(settle, *result)


def _finish(done: "asyncio.Future[Any]", result: object) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[Any]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
