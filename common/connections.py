"""What happens to a connection before the application hears of it: slow clients, heads that are refused, overload.

uvicorn itself waits for a slow client for ever, reads heads of any length and takes any number of Host headers. And a
request that is refused here costs a sixth of what it costs as a task of the application.
"""

import asyncio
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final, NoReturn, cast

import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from common.admission import Admission
from common.client_limits import (
    LINE_ENDS,
    ConnectionLimits,
    HeadRefusedError,
    HeadTooLargeError,
    RequestTimeoutError,
    check_head,
)
from common.errors import BodyTooLargeError, OverloadedError, PlatformError
from common.headers import request_id
from common.lingering import Lingering, LingeringTransport
from common.metrics import REQUESTS
from common.shedding import Route, Shedding, answer_bytes, is_one_whole_request

Admissions = Mapping[Route, Admission]
MAX_SWEEP_S: Final = 1.0
_log = structlog.get_logger()


def guarded_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """Return what uvicorn takes as `http`: connections that keep to `limits`, and one sweep over all of them."""
    return cast("type[asyncio.Protocol]", partial(GuardedConnection, limits=limits, sweep=_Sweep(limits)))


class GuardedConnection(HttpToolsProtocol):
    """One connection of uvicorn's, with deadlines, limits and refusals before a task is made."""

    transport: LingeringTransport

    def __init__(self, *args: Any, limits: ConnectionLimits, sweep: "_Sweep", **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **named)
        self._limits = limits
        self._sweep = sweep
        self._admissions: Admissions = self.app_state.get("admissions", {})
        self._max_body_bytes: int = self.app_state.get("max_body_bytes", 0)
        self._running: RequestResponseCycle | None = None  # the request that is answered first
        self._arrived: Admission | None = None  # where the running request is counted
        self._overloaded = False  # there is no place for the request that is being read
        self._read_over = 0  # bytes of its body
        self._broken = False  # what follows on this connection cannot be read
        self._refusal: PlatformError | None = None
        self._hot = [
            (b"%b %b HTTP/1.1\r\n" % route, route, admission) for route, admission in self._admissions.items()
        ]
        self._in_message = self._in_body = False
        self._idle = False  # `_due` ends a pause between requests, not a request
        self._head_bytes = 0
        self._now = 0.0
        self._due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the client its time for a first head."""
        bare = cast("asyncio.Transport", transport)
        super().connection_made(LingeringTransport(bare, self._sweep.lingering, self._is_unread))
        self._due = self.loop.time() + self._limits.head_s
        self._sweep.watch(cast("Collection[GuardedConnection]", self.connections), self.loop)

    def data_received(self, data: bytes) -> None:
        """Read on; the time for a head begins with its first byte."""
        if self.transport.lingers:
            self.transport.read_over(data)
            return
        if self._broken:
            self.flow.pause_reading()
            return
        self._now = self.loop.time()
        if self._turned_away(data):
            return
        if (self._due is None or self._idle) and not self._answering():
            self._due = self._now + self._limits.head_s
            self._idle = False
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self._limits.head_bytes and not self._in_body:
            self._refuse(HeadTooLargeError())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._give_up()
        self._sweep.lingering.forget(self.transport)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        self._in_message = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after the body belongs to no head that was checked, and is left out.

        Spaces behind a value are no part of it (RFC 9110, 5.5); the parser only leaves out those before it.
        """
        if not self._in_body:
            super().on_header(name, value.rstrip(b" \t"))
            return
        self._head_bytes += len(name) + len(value) + LINE_ENDS
        if self._head_bytes > self._limits.head_bytes:
            self._stop_reading(HeadTooLargeError())

    def on_headers_complete(self) -> None:
        """Begin the request, unless its head is not taken or there is no place for it."""
        self._check_head()
        if self._has_place():
            super().on_headers_complete()
        elif self.expect_100_continue:  # it waits for an answer before it sends the body
            self._stop_reading(OverloadedError())
        else:
            self._read_over = 0
            self._check_length(sum(int(value) for name, value in self.headers if name == b"content-length"))
        self._in_body = True
        self._head_bytes = 0
        self._due = self._now + self._limits.body_s

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body, or read over it."""
        if not self._overloaded:
            super().on_body(body)
            return
        self._read_over += len(body)
        self._check_length(self._read_over)

    def on_message_complete(self) -> None:
        """Answer a request for which there is no place, now that whatever follows on the connection is the next one."""
        self._in_message = self._in_body = False
        self._due = None
        if not self._overloaded:
            super().on_message_complete()
            return
        self._overloaded = False
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        self._answer(OverloadedError(), close=not keep_alive)
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request on this connection."""
        self._depart()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser does not take, or what `_stop_reading` was given."""
        self._refuse(self._refusal or HeadRefusedError())

    def close_if_late(self, now: float) -> None:
        """Refuse a request that is still not complete although its time is over."""
        if self._due is None or now < self._due or self.transport.is_closing():
            return
        if self._in_body or self._head_bytes:
            self._refuse(RequestTimeoutError())
        else:
            self.transport.close()  # it never asked for anything

    def _turned_away(self, data: bytes) -> bool:
        """Answer a request for which there is no place without parsing it, if `data` is that and nothing else.

        What many refusals cost is missing for the work. Everything that is in any way odd is left to the parser.
        """
        if self._in_message or self._answering():
            return False
        for line, route, admission in self._hot:
            if data.startswith(line) and admission.is_full() and is_one_whole_request(data):
                admission.note_refusal()
                self._unset_keepalive_if_required()
                self._due = self._now + self.timeout_keep_alive
                self._idle = True
                self.transport.write(self._sweep.shedding.refusal(self.server_state.default_headers))
                self._sweep.shedding.count(route)
                return True
        return False

    def _check_head(self) -> None:
        """Refuse a head that is too long, or does not name one host."""
        try:
            check_head(self.url, self.headers, self._limits, upgrades=self.parser.should_upgrade())
        except PlatformError as error:
            self._stop_reading(error)

    def _check_length(self, length: int) -> None:
        """Refuse a body that nobody would read if there were a place."""
        if length > self._max_body_bytes:
            self._stop_reading(BodyTooLargeError(f"At most {self._max_body_bytes} bytes are read."))

    def _has_place(self) -> bool:
        """Count the request where its work is bounded; those behind another on their connection are counted there."""
        admission = self._admissions.get((self.parser.get_method(), self.url))
        self._overloaded = admission is not None and not self._answering() and not admission.arrive()
        if not self._overloaded and not self._answering():
            self._arrived = admission
        return not self._overloaded

    def _stop_reading(self, error: PlatformError) -> NoReturn:
        """Leave the parser, which raises an error of its own; uvicorn then calls `send_400_response`."""
        self._refusal = error
        raise error

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _depart(self) -> None:
        if self._arrived is not None:
            self._arrived.depart()
            self._arrived = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _give_up(self) -> None:
        """Let go of the client: nobody waits for the running request any more."""
        self._due = None
        self._depart()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn says so to the newest only
            self._running.message_event.set()

    def _is_unread(self) -> bool:
        return self._in_message or self._broken

    def _refuse(self, error: PlatformError) -> None:
        """Answer `error` and close; answers that others still wait for on this connection go first, and alone."""
        self._due = None
        if self._broken or self.transport.is_closing():
            return
        self._broken = True
        if (last := self._last_whole()) is not None:
            last.keep_alive = False
            self.flow.pause_reading()
            return
        if not (self._in_body and not self._overloaded and self.cycle.response_started):
            self._answer(error, close=True)
        self._give_up()
        self.cycle = cast("RequestResponseCycle", None)  # as in uvicorn before the first request
        self.transport.close()

    def _last_whole(self) -> RequestResponseCycle | None:
        """Return the last request that arrived whole and is not answered yet; forget the one behind it."""
        if self._in_body and self.pipeline:
            self.pipeline.popleft()
        elif self._in_body and self._running is self.cycle:
            return None
        if self.pipeline:
            return self.pipeline[0][0]
        return self._running if self._running is not None and not self._running.response_complete else None

    def _answer(self, error: PlatformError, *, close: bool) -> None:
        given = next((value for name, value in self.headers or () if name == b"x-request-id"), b"")
        chosen_id = request_id(given.decode("latin-1"))
        self.transport.write(answer_bytes(error, chosen_id, self.server_state.default_headers, close=close))
        if isinstance(error, OverloadedError):
            self._sweep.shedding.count((self.parser.get_method(), self.url))
        else:
            REQUESTS.labels("other", "unknown", error.status_code).inc()
            _log.info("request.refused", status=error.status_code, reason=error.type)


class _Sweep:
    """Looks at all connections of a server from time to time: cheaper than a timer for each request."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.shedding = Shedding()
        self.lingering = Lingering(limits.linger)
        self._every_s = min(MAX_SWEEP_S, limits.head_s / 4, limits.body_s / 4)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Collection[GuardedConnection], loop: asyncio.AbstractEventLoop) -> None:
        """Look at `connections` until there are none; they are all those of one server."""
        if self._timer is None:
            self._timer = loop.call_later(self._every_s, self._look, connections, loop)

    def _look(self, connections: Collection[GuardedConnection], loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for connection in tuple(connections):
            if isinstance(connection, GuardedConnection):
                connection.close_if_late(now)
        self.lingering.close_late(now)
        self.shedding.report()
        if connections:
            self.watch(connections, loop)
