"""create_app(): what all services have in common is attached here and nowhere else."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from common.auth.keys import TokenVerifier
from common.background import running
from common.docs_page import install_docs_page
from common.errors import StartupError, install_error_handlers
from common.failpoints import armed
from common.logging import configure_logging
from common.metrics import measuring, metrics_response
from common.middleware import RequestMiddleware
from common.openapi import install_openapi
from common.rate_limits.limiting import Allowances, NoAllowances, RateLimits
from common.rate_limits.shared import SharedCounts
from common.settings import Environment, ServiceSettings, load_settings
from common.valkey.calls import ValkeyCalls

API_VERSION = "1.0.0"
SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
ReadinessCheck = Callable[[], Awaitable[bool]]
State = Mapping[str, Any]


@dataclass(frozen=True)
class Service(Generic[SettingsT]):
    """One service: its name, its settings, its routes, and how its collaborators are built.

    `build` yields what requests find in `request.state`; the key `readiness` maps a name to a check, `details` a name to
    what `/ready` tells besides, `allowances` says what institutions may ask for, `valkey` is what its processes share.
    `shortcuts` put ASGI layers in front, which answer what they know before FastAPI sees it.
    """

    name: str
    summary: str
    settings_type: type[SettingsT]
    build: Callable[[SettingsT], AbstractAsyncContextManager[State]]
    routers: Sequence[APIRouter]
    shortcuts: Sequence[Callable[[ASGIApp], ASGIApp]] = ()


class ServiceApp(FastAPI):
    """A FastAPI application behind layers of its own: what they answer never goes through FastAPI's own layers."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; requests go through the front."""
        if scope["type"] == "http":
            await self.front(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(service: Service[SettingsT], settings: SettingsT | None = None) -> FastAPI:
    """Make the web application of `service`; settings are read when it starts, unless given."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        chosen = settings or load_settings(service.settings_type)
        configure_logging(
            service=service.name,
            level="debug" if chosen.debug else chosen.log_level,
            json_lines=not (chosen.debug and chosen.environment is Environment.DEVELOPMENT),
        )
        log = structlog.get_logger()
        try:
            with armed(chosen.failpoints):
                async with service.build(chosen) as state, running(*measuring()):
                    log.info("service.started", environment=chosen.environment.value)
                    yield {**_shared_state(service.name, chosen, state), **state}
        except StartupError as error:
            log.error("service.refused_to_start", reason=str(error))  # noqa: TRY400 - uvicorn logs the traceback
            app.state.refusal = str(error)
            raise
        log.info("service.stopped")

    app = ServiceApp(
        title=f"Assay {service.name}",
        summary=service.summary,
        version=API_VERSION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the caller's Host and query
    )
    install_error_handlers(app)
    install_openapi(app)
    install_docs_page(app)
    for router in service.routers:
        app.include_router(router)
    app.include_router(_operations)
    behind: ASGIApp = partial(FastAPI.__call__, app)
    for shortcut in service.shortcuts:
        behind = shortcut(behind)
    app.front = RequestMiddleware(behind)
    return app


def _shared_state(name: str, settings: ServiceSettings, state: State) -> State:
    """Return what requests of every service find in `request.state`."""
    valkey: ValkeyCalls | None = state.get("valkey")
    return {
        "max_body_bytes": settings.max_body_bytes,
        "trusted_proxies": tuple(settings.trusted_proxies),
        "rate_limits": RateLimits(
            unauthenticated_per_minute=settings.unauthenticated_per_minute,
            failures_per_minute=settings.failed_authentications_per_minute,
            allowances=state.get("allowances") or _allowances_known_to(state.get("token_verifier")),
            shared=None if valkey is None else SharedCounts(valkey, service=name),
        ),
    }


def _allowances_known_to(verifier: TokenVerifier | None) -> Allowances:
    return NoAllowances() if verifier is None else verifier.access


_operations = APIRouter(tags=["operations"])


@_operations.get("/health")
async def health() -> dict[str, str]:
    """Answer while the process is alive."""
    return {"status": "alive"}


@_operations.get("/ready", responses={503: {"description": "Something this service needs is not there yet"}})
async def ready(request: Request) -> Response:
    """Answer 200 when this service can do its work, otherwise 503; the body names each check."""
    checks: Mapping[str, ReadinessCheck] = request.state.readiness
    results = {name: await check() for name, check in checks.items()}
    is_ready = all(results.values())
    # what is worth knowing and keeps nobody from being served
    told = {name: tell() for name, tell in getattr(request.state, "details", {}).items()}
    body = {"ready": is_ready, "checks": results, **({"details": told} if told else {})}
    return JSONResponse(body, status_code=200 if is_ready else 503)


@_operations.get("/metrics", response_class=Response)
async def metrics() -> Response:
    """Return this process's metrics in Prometheus' text format."""
    return metrics_response()
