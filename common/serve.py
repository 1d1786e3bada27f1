"""Runs one service as a process: `python -m ai_service --port 8000`."""

import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, Never

import uvicorn
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from common.app import Service, SettingsT, State, create_app
from common.client_limits import ConnectionLimits
from common.connections import guarded_protocol
from common.errors import StartupError
from common.logging import configure_logging
from common.settings import ServiceSettings, load_settings, worker_socket
from common.workers import WorkerPlace, supervise

# requests leave hardly a cycle behind: looking for some after every 700 objects finds none
YOUNG_OBJECTS = 10_000
SWITCH_S = (
    0.0005  # a thread that writes to the database waits this long for its turn, not 5 ms at each statement
)


def serve(service: Service[SettingsT]) -> None:
    """Read settings (flags first), then serve until a signal asks to stop; what keeps it from starting ends it with 1."""
    try:
        settings = load_settings(service.settings_type, flags=sys.argv[1:])
    except ValidationError as error:
        lines = "\n".join(map(_line, error.errors()))
        sys.exit(f"{service.name} cannot start; these settings are wrong:\n{lines}")
    except StartupError as error:
        sys.exit(f"{service.name} cannot start: {error}")
    worker = worker_socket()
    if settings.workers > 1 and worker is None:
        _supervise(service, settings)
    app = create_app(replace(service, build=_set_aside(service.build)), settings)
    sys.setswitchinterval(SWITCH_S)
    app.openapi()  # made here, not while transactions wait: it takes 50 ms
    # uvicorn raises the signal again once everything is closed; a clean stop then ends with 0, not as killed
    signal.signal(signal.SIGTERM, _end)
    try:
        if worker is None:
            uvicorn.run(app, host=settings.host, port=settings.port, **_options(settings))
        else:
            WorkerPlace(socket.socket(fileno=worker)).serve(uvicorn.Config(app, **_options(settings)))
    except SystemExit:
        if hasattr(app.state, "refusal"):
            sys.exit(f"{service.name} cannot start: {app.state.refusal}")
        raise


def _supervise(service: Service[SettingsT], settings: SettingsT) -> Never:
    """Have other processes serve, and end with what became of them."""
    configure_logging(
        service=service.name, level="debug" if settings.debug else settings.log_level, json_lines=True
    )
    try:
        sys.exit(supervise(settings))
    except StartupError as error:
        sys.exit(f"{service.name} cannot start: {error}")


def _options(settings: ServiceSettings) -> dict[str, Any]:
    limits = ConnectionLimits(head_s=settings.head_timeout_s, body_s=settings.body_timeout_s)
    return {
        "workers": 1,  # of uvicorn's own, also where WEB_CONCURRENCY says otherwise: ours are in common.workers
        "ws": "none",  # nothing here speaks it, and the guards below are of HTTP
        "http": guarded_protocol(limits),
        "timeout_graceful_shutdown": settings.graceful_shutdown_s,
        "access_log": False,
        "log_config": None,
        "proxy_headers": False,
        "server_header": False,
    }


def _set_aside(
    build: Callable[[SettingsT], AbstractAsyncContextManager[State]],
) -> Callable[[SettingsT], AbstractAsyncContextManager[State]]:
    """Return `build`, after which the garbage collector leaves alone what is there: it lives as long as the process.

    Going through half a million such objects again and again stopped a busy service for 120 ms every second.
    """

    @asynccontextmanager
    async def built(settings: SettingsT) -> AsyncIterator[State]:
        async with build(settings) as state:
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS)
            yield state

    return built


def _line(found: ErrorDetails) -> str:
    name = ".".join(map(str, found["loc"])).upper()
    message = found["msg"].removeprefix("Value error, ")
    return f"  {name}: {message}" if name else f"  {message}"


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
