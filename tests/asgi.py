"""Runs a real application in the test's process, with its lifespan, without a socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import httpx
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from tests.documented import Answers, published

T = TypeVar("T")


@asynccontextmanager
async def open_app(app: FastAPI, *, peer: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """Start `app`, yield a client for it that comes from `peer`, stop it.

    An answer that the published API document does not know fails the test.
    """
    answers = Answers(published(app.title))
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = dict(state or {})
            await app(scope, receive, answers.watched(scope, send))

        transport = httpx.ASGITransport(app=with_state, raise_app_exceptions=False, client=(peer, 123))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client
    missing = sorted(answers.undocumented)
    assert not missing, "not in docs/openapi: " + ", ".join(missing)


@asynccontextmanager
async def open_app_apart(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The same, with the app on an event loop of its own, in a thread.

    A test that writes to the app's database file without awaiting would otherwise stop the very loop that has to end
    the transaction it waits for.
    """
    with _loop_apart() as there:
        opened = open_app(app)
        inside = await _on(there, opened.__aenter__())
        transport = inside._transport
        assert isinstance(transport, httpx.ASGITransport)
        inner = transport.app

        async def across(scope: Scope, receive: Receive, send: Send) -> None:
            here = asyncio.get_running_loop()
            await _on(
                there, inner(scope, lambda: _on(here, receive()), lambda message: _on(here, send(message)))
            )

        transport.app = across
        try:
            yield inside
        finally:
            await _on(there, opened.__aexit__(None, None, None))


async def _on(loop: asyncio.AbstractEventLoop, call: Awaitable[T]) -> T:
    """Await `call` on `loop`, whichever loop this one is."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(call), loop))


async def _awaited(call: Awaitable[T]) -> T:
    return await call


@contextmanager
def _loop_apart() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="app")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
