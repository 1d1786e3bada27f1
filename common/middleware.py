"""The pure ASGI layer around every request: request id, bounded body, headers, metrics, one log line, no bare 500."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import BodyTooLargeError, UnavailableError, problem, render_problem
from common.headers import RATE_LIMITS, SECURITY_HEADERS, request_id
from common.logging import RunningRequest, log_request, start_request
from common.metrics import request_metrics

_QUIET = frozenset({"/health", "/ready", "/metrics"})
_SECURITY: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS]
_REQUEST_ID: Final = b"x-request-id"
_NO_STORE: Final = (b"cache-control", b"no-store")
_log = structlog.get_logger()
RawHeaders = Sequence[tuple[bytes, bytes]]


class RequestMiddleware:
    """Wraps one HTTP request; lifespan and websocket traffic pass through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `scope`, then count and log what was answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = start_request(request_id(header(scope["headers"], _REQUEST_ID).decode("latin-1")))
        answer = _Answer(scope, send, request.request_id)
        try:
            body = await _read_body(scope["headers"], receive, scope["state"]["max_body_bytes"])
            await self.app(scope, body, answer.send)
        except _ClientGoneError:
            answer.status = 499
        except BodyTooLargeError as error:
            await answer.fail(scope, receive, render_problem(error).response())
        except asyncio.CancelledError:  # the service stops, and will not wait any longer
            stopping = UnavailableError("This service is stopping.")
            await answer.fail(scope, receive, render_problem(stopping).response())
            raise
        except Exception:  # noqa: BLE001 - the boundary: no request ends without an answer and a log line
            _log.exception("request.failed", path=_route(scope))
            unknown = problem(status=500, type_="internal", title="Something went wrong here")
            await answer.fail(scope, receive, unknown)
        finally:
            _record(scope, answer, request)


def header(headers: RawHeaders, name: bytes) -> bytes:
    """Return the first header called `name` (in lower case), empty where there is none."""
    for key, value in headers:
        if key == name:
            return value
    return b""


class _Answer:
    """Adds the common headers to the answer and remembers its status and when it was complete."""

    __slots__ = ("_began", "_request_id", "_scope", "_send", "seconds", "started", "status")

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._began = time.perf_counter()
        self.status = 500
        self.started = False
        self.seconds: float | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = [each for each in message["headers"] if each[0] != _REQUEST_ID]
            headers += [
                (_REQUEST_ID, self._request_id.encode()),
                *_SECURITY,
                *self._scope.get(RATE_LIMITS, ()),
            ]
            if not header(headers, b"cache-control"):
                headers.append(_NO_STORE)
            message["headers"] = headers
        elif not message.get("more_body", False):
            self.end()
        await self._send(message)

    def end(self) -> float:
        """Return the seconds the answer took, up to now if it is not complete."""
        if self.seconds is None:
            self.seconds = time.perf_counter() - self._began
        return self.seconds

    async def fail(self, scope: Scope, receive: Receive, response: Response) -> None:
        """Answer with a problem, unless a part of another answer already left."""
        if not self.started:
            response.headers["Connection"] = "close"
            await response(scope, receive, self.send)


class _ClientGoneError(Exception):
    """The client closed the connection before its body was complete."""


async def _read_body(headers: RawHeaders, receive: Receive, limit: int) -> Receive:
    """Read the whole body, at most `limit` bytes of it, and return a `receive` that hands it on as one piece.

    Raises `BodyTooLargeError` as soon as the limit is passed, and `_ClientGoneError`.
    """
    declared = header(headers, b"content-length")
    if not declared and not header(headers, b"transfer-encoding"):
        return receive
    if declared.isdigit() and int(declared[:20]) > limit:
        raise BodyTooLargeError(f"At most {limit} bytes are read.")
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _ClientGoneError
    if message.get("more_body", False) or len(message.get("body", b"")) > limit:
        message = {"type": "http.request", "body": await _rest(message, receive, limit), "more_body": False}
    whole = [message]

    async def receive_whole() -> Message:
        return whole.pop() if whole else await receive()

    return receive_whole


async def _rest(message: Message, receive: Receive, limit: int) -> bytes:
    pieces = [message.get("body", b"")]
    length = len(pieces[0])
    while length <= limit and message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        pieces.append(message.get("body", b""))
        length += len(pieces[-1])
    if length > limit:
        raise BodyTooLargeError(f"At most {limit} bytes are read.")
    return b"".join(pieces)


def _record(scope: Scope, answer: _Answer, request: RunningRequest) -> None:
    method, route, seconds = _known_method(scope["method"]), _route(scope), answer.end()
    count, duration = request_metrics(method, route, answer.status)
    count.inc()
    duration.observe(seconds)
    if scope["path"] not in _QUIET:
        log_request(request, method=method, route=route, status=answer.status, ms=round(seconds * 1000, 2))


def _route(scope: Scope) -> str:
    """Name the route by its template, so that ids in a path make no new metric."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def _known_method(method: str) -> str:
    return method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"
