"""Structured logs: one JSON object a line on standard output, or coloured text for a person at a terminal."""

import asyncio
import atexit
import io
import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, TextIO

import orjson
import structlog

from common.clock import utc_now
from common.log_output import UnwaitedOutput, has_a_reader, unwaited_output

_SECRET_WORDS = (
    "password",
    "secret",
    "token",
    "authorization",
    "cookie",
    "api_key",
    "card_number",
    "passphrase",
    "private_key",
)
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
FLUSH_S = 0.05
RETRY_S = 0.5
LAST_LINES_S = 1.0
MAX_HELD_LINES = 1000


@dataclass(slots=True)
class RunningRequest:
    """The request that the running code works for: its id, and the facts for its one log line."""

    request_id: str
    facts: dict[str, Any] = field(default_factory=dict)


_running: ContextVar[RunningRequest | None] = ContextVar("running_request", default=None)


def configure_logging(*, service: str, level: str, json_lines: bool) -> None:
    """Configure structlog and the standard library's logging; called once when a process starts."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no character may keep a line from being written
    may_wait = sys.stdout is not None and _lines.go_to(sys.stdout)
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_dumps)
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_origin,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide_secrets,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=lambda *_names: _Logger(),
        cache_logger_on_first_use=False,
    )
    _line.service = service
    _line.processors = structlog.get_config()["processors"]
    _line.written = json_lines and numeric <= logging.INFO
    if may_wait:
        structlog.get_logger().warning("logs.waited_for", reason="standard output belongs to another user")
    logging.basicConfig(handlers=[_ToStructlog()], level=max(numeric, logging.WARNING), force=True)


def start_request(request_id: str) -> RunningRequest:
    """Say that the running code now works for the request `request_id`."""
    request = RunningRequest(request_id)
    _running.set(request)
    return request


def leave_request() -> None:
    """Say that the running code works for no request, or for many."""
    _running.set(None)


def request_id() -> str:
    """Return the id of the running request; empty outside of one."""
    request = _running.get()
    return "" if request is None else request.request_id


def add_facts(**facts: Any) -> None:  # noqa: ANN401 - any loggable value
    """Add `facts` to the line that is logged when the running request ends."""
    request = _running.get()
    if request is not None:
        request.facts.update(facts)


def log_request(request: RunningRequest, **facts: Any) -> None:  # noqa: ANN401 - any loggable value
    """Write the one line of a request that was answered.

    It is the only line that a busy service writes for every request, so it takes a shorter way to the same form, and
    is held back for up to 50 ms, to be written together with others.
    """
    if not _line.written or structlog.get_config()["processors"] is not _line.processors:
        structlog.get_logger().info("request.answered", **facts, **request.facts)
        return
    event = {
        **facts,
        **request.facts,
        "service": _line.service,
        "request_id": request.request_id,
        "event": "request.answered",
        "level": "info",
        "timestamp": utc_now(),
    }
    _lines.write_soon(_dumps(_hide_secrets(None, "", event)))


class _Lines:
    """Standard output, whole lines in order; what may wait is written together, and nobody waits for a slow reader.

    A line may be logged while another one is being written: by another thread, and in the midst of it by the same one,
    when it collects garbage that has something to say. Neither waits: whoever writes goes on until nothing is held.
    """

    def __init__(self) -> None:
        self._held: deque[str] = deque()
        self._writing = threading.Lock()
        self._unwaited: tuple[TextIO, UnwaitedOutput] | None = None
        self._soon = _Later(FLUSH_S, self.flush)
        self._again = _Later(RETRY_S, self.flush)
        atexit.register(self._finish)

    def go_to(self, output: TextIO) -> bool:
        """Find out once what `output` is; return whether whoever logs may have to wait for its reader."""
        _Later.look()
        if output is not sys.__stdout__:
            return False  # somebody put another one in its place, which is not looked at
        if self._unwaited is None or self._unwaited[0] is not output:
            found = unwaited_output(output.fileno())
            self._unwaited = None if found is None else (output, found)
        return self._unwaited is None and has_a_reader(output.fileno())

    def write(self, text: str) -> None:
        """Write `text`, whole lines, after everything that is held back."""
        self._held.append(text)
        self._write_held()

    def flush(self) -> None:
        """Write what is held back, and what was not taken before."""
        self.write("")

    def write_soon(self, line: str) -> None:
        """Write `line` within 50 ms; at once where no event loop runs or much is held back."""
        self._held.append(line + "\n")
        if len(self._held) >= MAX_HELD_LINES or not self._soon.ask():
            self._write_held()

    def _write_held(self) -> None:
        while self._held and self._writing.acquire(blocking=False):
            try:
                self._put("".join(_taken(self._held)))
            finally:
                self._writing.release()

    def _put(self, text: str) -> None:
        if self._unwaited is not None and self._unwaited[0] is sys.stdout:
            output = self._unwaited[1]
            output.write(text)
            if output.waiting:
                self._again.ask()
        elif sys.stdout is not None:  # it was closed before this process began
            sys.stdout.write(text)
            sys.stdout.flush()

    def _finish(self) -> None:
        self.flush()
        if self._unwaited is not None and self._writing.acquire(timeout=LAST_LINES_S):
            self._unwaited[1].finish(timeout_s=LAST_LINES_S)
            self._writing.release()


class _Later:
    """Makes a call on the event loop after a while, one for all who ask meanwhile."""

    _seen: ClassVar[asyncio.AbstractEventLoop | None] = None

    def __init__(self, after_s: float, call: Callable[[], None]) -> None:
        self._after_s = after_s
        self._call = call
        self._due_on: asyncio.AbstractEventLoop | None = None

    @classmethod
    def look(cls) -> asyncio.AbstractEventLoop | None:
        """Return the loop that runs here, and keep it for threads that have none."""
        try:
            cls._seen = asyncio.get_running_loop()
        except RuntimeError:
            return None
        return cls._seen

    def ask(self) -> bool:
        """Return whether this is on an event loop; a thread's wish goes to the loop that was seen last."""
        loop = self.look()
        if loop is None:
            if self._seen is not None:
                with suppress(RuntimeError):  # it has ended
                    self._seen.call_soon_threadsafe(self.ask)
            return False
        if self._due_on is not loop:
            self._due_on = loop
            loop.call_later(self._after_s, self._make)
        return True

    def _make(self) -> None:
        self._due_on = None
        self._call()


def _taken(held: deque[str]) -> Iterator[str]:
    with suppress(IndexError):
        while True:
            yield held.popleft()


class _Logger:
    """What structlog hands finished lines to; its own loggers have a lock, for which a line within a line would wait."""

    def msg(self, line: str) -> None:
        _lines.write(line + "\n")

    debug = info = warning = error = critical = exception = log = msg


@dataclass
class _RequestLine:
    service: str = ""
    written: bool = False
    processors: Any = None


_lines = _Lines()
_line = _RequestLine()


class _ToStructlog(logging.Handler):
    """Passes what libraries log through the same pipeline; the message only, never its request data."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = max(known for known in _LEVELS if known <= max(record.levelno, logging.DEBUG))
            log = structlog.get_logger(record.name)
            log.log(level, record.getMessage(), exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - the boundary: a library must not fail because of its log line
            self.handleError(record)


def _dumps(event: Any, **_options: Any) -> str:  # noqa: ANN401 - structlog's serializer protocol
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # lone surrogates, huge integers, odd keys: slower, but the line is written
        return json.dumps(event, default=str, skipkeys=True)


def _add_origin(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    event.setdefault("service", _line.service)
    request = _running.get()
    if request is not None:
        event.setdefault("request_id", request.request_id)
    return event


@lru_cache(maxsize=1024)
def _secret_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if any(word in str(name).lower() for word in _SECRET_WORDS))


def _hide_secrets(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    for name in _secret_names(tuple(event)):
        event[name] = "[hidden]"
    for name, value in event.items():
        if isinstance(value, dict):
            event[name] = _hide_secrets(_logger, _name, dict(value))
    return event
