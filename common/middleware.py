"""The pure ASGI layer around every request: request id, bounded body, headers, metrics, one log line, no bare 500."""

import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import BodyTooLargeError, problem
from common.headers import SECURITY_HEADERS, request_id
from common.logging import start_facts
from common.metrics import REQUEST_SECONDS, REQUESTS

_QUIET = frozenset({"/health", "/ready", "/metrics"})
_log = structlog.get_logger()


class RequestMiddleware:
    """Wraps one HTTP request; lifespan and websocket traffic pass through."""

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `scope`, then count and log what was answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        chosen_id = request_id(headers.get("x-request-id", ""))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(service=self.service, request_id=chosen_id)
        facts = start_facts()
        answer = _Answer(send, chosen_id)
        try:
            body = await _read_body(headers, receive, scope["state"]["max_body_bytes"])
            await self.app(scope, body, answer.send)
        except _ClientGoneError:
            answer.status = 499
        except BodyTooLargeError as error:
            await answer.fail(
                scope, receive, status=413, type_=error.type, title=error.title, detail=error.detail
            )
        except Exception:  # noqa: BLE001 - the boundary: no request ends without an answer and a log line
            _log.exception("request.failed", path=_route(scope))
            await answer.fail(scope, receive, status=500, type_="internal", title="Something went wrong here")
        finally:
            self._record(scope, answer.status, time.perf_counter() - started, facts)

    def _record(self, scope: Scope, status: int, seconds: float, facts: dict[str, Any]) -> None:
        method, route = _known_method(scope["method"]), _route(scope)
        REQUESTS.labels(method, route, status).inc()
        REQUEST_SECONDS.labels(method, route).observe(seconds)
        if scope["path"] not in _QUIET:
            _log.info(
                "request.answered",
                method=method,
                route=route,
                status=status,
                ms=round(seconds * 1000, 2),
                **facts,
            )


class _Answer:
    """Adds the common headers to the answer and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 500
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            for name, value in SECURITY_HEADERS:
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    async def fail(self, scope: Scope, receive: Receive, *, status: int, **problem_fields: str) -> None:
        """Answer with a problem, unless a part of another answer already left."""
        if not self.started:
            response = problem(status=status, **problem_fields)  # type: ignore[arg-type]
            response.headers["Connection"] = "close"
            await response(scope, receive, self.send)


class _ClientGoneError(Exception):
    """The client closed the connection before its body was complete."""


async def _read_body(headers: Headers, receive: Receive, limit: int) -> Receive:
    """Read the whole body, at most `limit` bytes of it, and return a `receive` that hands it on as one piece.

    Raises `BodyTooLargeError` as soon as the limit is passed, and `_ClientGoneError`.
    """
    declared = headers.get("content-length", "")
    if not declared and "transfer-encoding" not in headers:
        return receive
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise BodyTooLargeError(f"At most {limit} bytes are read.")
    pieces: list[bytes] = []
    length = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        pieces.append(message.get("body", b""))
        length += len(pieces[-1])
        if length > limit:
            raise BodyTooLargeError(f"At most {limit} bytes are read.")
        more = message.get("more_body", False)
    whole: list[Message] = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

    async def receive_whole() -> Message:
        return whole.pop() if whole else await receive()

    return receive_whole


def _route(scope: Scope) -> str:
    """Name the route by its template, so that ids in a path make no new metric."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def _known_method(method: str) -> str:
    return method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"
