"""One thread that owns the writing connection: jobs run one after another, each in one durable transaction."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from common.errors import UnavailableError

CHECK_AFTER_S = 5.0
ResultT = TypeVar("ResultT")
_Job = tuple[Callable[[Connection], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class DatabaseWriter:
    """Runs functions of a connection off the event loop and commits each before its caller hears of it.

    SQLite has one writer at a time anyway; a thread of its own costs one hand-over per job instead of one per
    statement. The connection is opened again after an error, and a job that finds it ended by the server is
    run again on a new one: what broke before the commit was rolled back.
    """

    def __init__(self, engine: Engine, *, name: str = "database-writer") -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._connection: Connection | None = None  # from here on the thread's own, as is when it was used
        self._used_at = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
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

    async def settle(self) -> None:
        """Wait until every job that was handed in before is done, also those whose callers went away."""
        await self.run(lambda _connection: None)

    async def close(self) -> None:
        """Finish the jobs that were handed in, then end the thread."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._engine.dispose()

    def _run(self) -> None:
        while (taken := self._jobs.get()) is not None:
            job, loop, done = taken
            try:
                result = self._transacted(job)
            except Exception as error:  # noqa: BLE001 - the boundary: the error belongs to the one who waits
                self._give_up()
                _answer(loop, _fail, done, error)
            else:
                _answer(loop, _finish, done, result)
            self._used_at = time.monotonic()
        self._give_up()

    def _transacted(self, job: Callable[[Connection], ResultT]) -> ResultT:
        """Run `job` in a transaction; once more if the server had ended the kept connection before its first word."""
        if time.monotonic() - self._used_at > CHECK_AFTER_S:
            self._give_up()  # the pool sees whether it still works
        is_kept = self._connection is not None
        try:
            return self._once(job)
        except _LostError as lost:
            if not is_kept:
                raise lost.error from None
        self._give_up()
        try:
            return self._once(job)
        except _LostError as lost:
            raise lost.error from None

    def _once(self, job: Callable[[Connection], ResultT]) -> ResultT:
        """Run `job` and commit; raises `_LostError` when the connection broke before the commit was asked for."""
        self._connection = self._connection or self._engine.connect()
        with self._connection.begin():
            try:
                return job(self._connection)
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise _LostError(error) from error
                raise

    def _give_up(self) -> None:
        """Close a connection that may be broken; the next job opens another."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None


class _LostError(Exception):
    """The connection broke while a job used it: nothing of the job is in the database."""

    def __init__(self, error: DBAPIError) -> None:
        super().__init__(str(error))
        self.error = error


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
