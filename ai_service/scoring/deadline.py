"""The time a scoring request may take."""

import asyncio
import re
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Request

from common.errors import PlatformError

TICK_S = 0.005
ResultT = TypeVar("ResultT")
_MILLISECONDS = re.compile(r"[1-9][0-9]{0,5}\Z", re.ASCII)


class DeadlineExceededError(PlatformError):
    """The decision was not made in time; it may have been saved all the same."""

    status_code = 503
    type = "deadline-exceeded"
    title = "There was no answer in time; repeat the request with the same transaction_id"

    def __init__(self) -> None:
        super().__init__(
            "The decision may have been saved. The same transaction_id gets the same answer.", retry_after_s=1
        )


class DeadlineInvalidError(PlatformError):
    """The header is not one number of milliseconds."""

    status_code = 422
    type = "deadline-invalid"
    title = "X-Deadline-Ms is a whole number of milliseconds from 1 to 999999, given once"


async def deadline_s(
    request: Request,
    x_deadline_ms: Annotated[
        str | None, Header(description="Lowers the server's deadline for this request, in milliseconds")
    ] = None,
) -> float:
    """Return how many seconds this request may take; raises `DeadlineInvalidError`."""
    if len(request.headers.getlist("x-deadline-ms")) > 1:
        raise DeadlineInvalidError
    return seconds_allowed(x_deadline_ms, limit_ms=request.state.deadline_ms)


def seconds_allowed(asked_ms: str | None, *, limit_ms: int) -> float:
    """Return the server's limit, or less if the caller asks for less; raises `DeadlineInvalidError`."""
    if asked_ms is None:
        return limit_ms / 1000
    if not _MILLISECONDS.fullmatch(asked_ms):
        raise DeadlineInvalidError
    return min(int(asked_ms), limit_ms) / 1000


DeadlineDep = Annotated[float, Depends(deadline_s)]


async def within(seconds: float, work: Coroutine[None, None, ResultT]) -> ResultT:
    """Return what `work` gives; raises `DeadlineExceededError` when it takes longer than `seconds`.

    The work goes on all the same: others may be waiting for the same transaction, with more time left.
    """
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_ended)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        raise DeadlineExceededError
    return task.result()


class Expiring(Protocol):
    """An answer that somebody waits for."""

    sent: bool

    async def expire(self) -> None:
        """Say that the time is over."""


class Deadlines:
    """Expires the answers that are not sent in time; one timer for all, so that one more costs next to nothing.

    A deadline is kept to within `TICK_S`.
    """

    def __init__(self) -> None:
        self._due: dict[int, list[tuple[Expiring, Context]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: Expiring, seconds: float) -> None:
        """Expire `answer` in `seconds`, unless it was sent by then."""
        loop = asyncio.get_running_loop()
        due = int((loop.time() + seconds) / TICK_S) + 1
        self._due.setdefault(due, []).append((answer, copy_context()))  # its own request id, not another's
        if self._timer is None:
            self._timer = self._next(loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = int(loop.time() / TICK_S)
        for tick in [tick for tick in self._due if tick <= now]:
            for answer, context in self._due.pop(tick):
                if not answer.sent:
                    task = loop.create_task(answer.expire(), context=context)
                    _running.add(task)
                    task.add_done_callback(_ended)
        self._timer = self._next(loop) if self._due else None

    def _next(self, loop: asyncio.AbstractEventLoop) -> asyncio.TimerHandle:
        return loop.call_later(TICK_S, self._tick, loop, context=Context())


_running: set["asyncio.Task[Any]"] = set()  # the loop itself only keeps weak references


def _ended(task: "asyncio.Task[Any]") -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # with nobody left to hear of it, it is not an error that nobody heard of it
