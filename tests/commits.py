"""Holds back or fails every COMMIT of this process, whichever engine makes it, and what must be true of answers then."""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from tests.waiting import PATIENCE_S, eventually
from user_service.bootstrap import RELAYS

Route = tuple[str, str]
Ask = Callable[[], Awaitable[httpx.Response]]
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HELD_S = 0.3


class Commits:
    """Counts the commits that were begun; what happens to them is up to the subclass.

    Those of user_service's relays, which go on all the time, are nobody's request: they are left alone. One that was
    held back would hold the database of the request that is looked at.
    """

    def __init__(self) -> None:
        self.begun = 0

    def on_commit(self, _connection: Connection) -> None:
        """Be called by SQLAlchemy just before it commits."""
        self.begun += 1


class HeldCommits(Commits):
    """Commits that wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()

    def on_commit(self, connection: Connection) -> None:
        super().on_commit(connection)
        if in_greenlet():  # an asynchronous engine: it must not hold up the event loop
            await_only(asyncio.to_thread(self._gate.wait, PATIENCE_S))
        else:
            self._gate.wait(PATIENCE_S)

    def let_go(self) -> None:
        """Let all of them go, and those that follow."""
        self._gate.set()


class FailingCommits(Commits):
    """Commits that end as they do on a disk that is full."""

    def on_commit(self, connection: Connection) -> None:
        super().on_commit(connection)
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))


@contextmanager
def held_commits() -> Iterator[HeldCommits]:
    """Hold back every commit until the block lets them go or ends."""
    commits = HeldCommits()
    with _listening(commits):
        try:
            yield commits
        finally:
            commits.let_go()


@contextmanager
def failing_commits() -> Iterator[FailingCommits]:
    """Fail every commit while the block runs."""
    commits = FailingCommits()
    with _listening(commits):
        yield commits


@contextmanager
def counted_commits() -> Iterator[Commits]:
    """Count the commits while the block runs."""
    commits = Commits()
    with _listening(commits):
        yield commits


@contextmanager
def _listening(commits: Commits) -> Iterator[None]:
    _current.append(commits)
    try:
        yield
    finally:
        _current.remove(commits)


_current: list[Commits] = []


@event.listens_for(Engine, "commit")
def _on_commit(connection: Connection) -> None:
    """Be there for good: a listener must not be taken away while a thread of a service is calling it."""
    if threading.current_thread().name != RELAYS:
        for commits in tuple(_current):
            commits.on_commit(connection)


async def check_commit_comes_first(client: httpx.AsyncClient, ask: Ask) -> httpx.Response:
    """Ask while commits are held back: nothing may be sent before they are let go. Return the answer."""
    with held_commits() as commits, _sent_to(client) as sent:
        asked = asyncio.ensure_future(ask())

        async def begun() -> bool:
            return commits.begun > 0 or asked.done()

        await eventually(begun)
        await asyncio.wait({asked}, timeout=HELD_S)
        sent_before = list(sent)
        commits.let_go()
        async with asyncio.timeout(PATIENCE_S):
            response = await asked
    assert commits.begun
    assert sent_before == []
    assert sent[0]["type"] == "http.response.start"
    assert response.is_success, response.text
    return response


async def check_failed_commit_is_an_outage(ask: Ask) -> None:
    """Ask while commits fail: the answer is a problem that says when to try again, and nothing else."""
    with failing_commits() as commits:
        response = await ask()
    assert commits.begun
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "1"
    assert response.json()["type"] == "urn:assay:problem:unavailable"


def changing_routes(app: FastAPI) -> set[Route]:
    """Return method and path of every route that may change something."""
    return {
        (method, route.path)
        for route in _api_routes(app.routes)
        for method in route.methods or ()
        if method in CHANGING
    }


def _api_routes(routes: Iterable[object]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif isinstance(router := getattr(route, "original_router", None), APIRouter):
            yield from _api_routes(router.routes)


@contextmanager
def _sent_to(client: httpx.AsyncClient) -> Iterator[list[Any]]:
    """Note what the application sends to `client`, which itself only gets whole answers."""
    sent: list[Any] = []
    transport: Any = client._transport  # the one of tests.asgi, which wraps the application
    app = transport.app

    async def noting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has them
        async def note(message: Any) -> None:  # noqa: ANN401 - as ASGI has them
            sent.append(message)
            await send(message)

        await app(scope, receive, note)

    transport.app = noting
    try:
        yield sent
    finally:
        transport.app = app
