"""A small real service with routes that succeed, fail and misbehave."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, EmailStr
from structlog.testing import LogCapture

from common.app import Service, State, create_app
from common.contracts.transactions import Transaction
from common.errors import NotFoundError, OverloadedError, PlatformError, UnavailableError
from common.logging import add_facts
from common.settings import ServiceSettings
from common.strict_json import StrictRoute, model_route
from tests.asgi import open_app

CANARY = "canary7391"
BODY_LIMIT = 2048


class GoneError(PlatformError):
    status_code = 410
    type = "gone"
    title = "It is gone"


ERRORS: dict[str, Callable[[], Exception]] = {
    "not-found": NotFoundError,
    "gone": lambda: GoneError("Since yesterday."),
    "overloaded": lambda: OverloadedError(retry_after_s=7),
    "unavailable": UnavailableError,
    "http-418": lambda: HTTPException(418, detail=CANARY),
    "http-415": lambda: HTTPException(415, detail=CANARY, headers={"Accept-Post": "application/json"}),
    "unexpected": lambda: RuntimeError(f"{CANARY} \ud800"),
}


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int
    email: EmailStr | None = None
    parts: tuple[int, ...] = ()


def routes() -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=StrictRoute)

    @router.post("/things")
    async def make_thing(thing: Thing) -> Thing:
        return thing

    @router.post("/transactions")
    async def take_transaction(transaction: Transaction) -> dict[str, Any]:
        return transaction.canonical

    @router.get("/things/{thing_id}")
    async def show_thing(
        thing_id: Annotated[int, Path(ge=0)],
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        x_deadline_ms: Annotated[int | None, Header(ge=1)] = None,
    ) -> dict[str, int]:
        add_facts(limit=limit)
        return {"thing_id": thing_id, "limit": limit, "deadline": x_deadline_ms or 0}

    @router.get("/tags")
    async def show_tags(tag: Annotated[list[str], Query()]) -> list[str]:
        return tag

    @router.get("/errors/{name}")
    async def fail(name: str) -> None:
        raise ERRORS[name]()

    @router.get("/half")
    async def half() -> Response:
        return HalfAnswer()

    @router.get("/cached")
    async def cached() -> Response:
        return Response(b"x", headers={"Cache-Control": "max-age=60", "X-Request-ID": "its own"})

    @router.post("/length")
    async def length(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    return router


def batch_routes() -> APIRouter:
    router = APIRouter(prefix="/v1/internal", route_class=model_route(Thing))

    @router.post("/things")
    async def make_thing(thing: Thing) -> Thing:
        return thing

    return router


class HalfAnswer(Response):
    """Fails after the answer has begun."""

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has them
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError(CANARY)


@dataclass
class Tiny:
    """What the service is built from."""

    checks: dict[str, bool] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    routers: list[APIRouter] = field(default_factory=list)

    @property
    def service(self) -> Service[ServiceSettings]:
        return Service(
            name="tiny",
            summary="A service for tests.",
            settings_type=ServiceSettings,
            build=self._build,
            routers=[routes(), batch_routes(), *self.routers],
        )

    @asynccontextmanager
    async def _build(self, _settings: ServiceSettings) -> AsyncIterator[State]:
        def check(name: str) -> Callable[[], Any]:
            async def answer() -> bool:
                return self.checks[name]

            return answer

        yield {"readiness": {name: check(name) for name in self.checks}, **self.state}

    def open(
        self,
        *,
        peer: str = "127.0.0.1",
        **settings: Any,  # noqa: ANN401 - any setting
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        chosen = ServiceSettings(max_body_bytes=BODY_LIMIT, _env_file=None, **settings)
        return open_app(create_app(self.service, chosen), peer=peer)


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture
async def client(tiny: Tiny) -> AsyncIterator[httpx.AsyncClient]:
    async with tiny.open() as opened:
        yield opened


@pytest.fixture
def lines(client: httpx.AsyncClient) -> Iterator[list[Any]]:
    """What the running service logs, before it is rendered."""
    capture = LogCapture()
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[*processors[:-1], capture])
    yield capture.entries
    structlog.configure(processors=processors)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The service configures logging for its process; later tests start without that."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def assert_problem(response: httpx.Response, status: int, type_: str) -> dict[str, Any]:
    """Check the one shape of failures and return the body."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:assay:problem:{type_}"
    assert body["title"]
    assert body["status"] == status
    assert body["request_id"] == response.headers["X-Request-ID"]
    common = {"type", "title", "status", "detail", "errors", "request_id"}
    assert set(body) <= common | ({"missing_scope", "required_roles"} if status == 403 else set())
    return body
