"""Structured logs: one JSON object a line on standard output, or coloured text for a person at a terminal."""

import io
import json
import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import orjson
import structlog

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
_facts: ContextVar[dict[str, Any] | None] = ContextVar("request_facts", default=None)


def configure_logging(*, service: str, level: str, json_lines: bool) -> None:
    """Configure structlog and the standard library's logging; called once when a process starts."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no character may keep a line from being written
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_dumps)
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide_secrets,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(handlers=[_ToStructlog()], level=max(numeric, logging.WARNING), force=True)


def start_facts() -> dict[str, Any]:
    """Begin collecting facts for the request's one log line and return the collection."""
    facts: dict[str, Any] = {}
    _facts.set(facts)
    return facts


def add_facts(**facts: Any) -> None:  # noqa: ANN401 - any loggable value
    """Add `facts` to the line that is logged when the running request ends."""
    collected = _facts.get()
    if collected is not None:
        collected.update(facts)


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
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # lone surrogates, huge integers, odd keys: slower, but the line is written
        return json.dumps(event, default=str, skipkeys=True)


def _hide_secrets(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    for key, value in event.items():
        name = str(key).lower()
        if any(word in name for word in _SECRET_WORDS):
            event[key] = "[hidden]"
        elif isinstance(value, dict):
            event[key] = _hide_secrets(_logger, _name, dict(value))
    return event
