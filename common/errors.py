"""Expected failures and their one shape on the wire: RFC 9457 problem+json, which never echoes input."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

PROBLEM_TYPE = "urn:assay:problem:"
_FIELD = re.compile(r"(?!.*[0-9]{5})[A-Za-z_][A-Za-z0-9_]{0,39}\Z")
_FREE_KEYS = "metadata"  # the one field whose keys callers choose
_EMAIL_MESSAGE = "value is not a valid email address"
# pydantic's messages of these types hold a part of what was sent
_TELLING_TYPES = frozenset({"union_tag_invalid", "uuid_parsing", "url_parsing", "get_attribute_error"})
_log = structlog.get_logger()
_STATUS_TITLES = {
    400: ("bad-request", "The request cannot be read"),
    404: ("not-found", "There is nothing at this address"),
    405: ("method-not-allowed", "This address does not take that method"),
    415: ("unsupported-media-type", "The body has a type that is not taken here"),
}


class StartupError(Exception):
    """A service cannot start; the message tells the operator what is wrong and what to do."""


class PlatformError(Exception):
    """A failure the caller can act on; each subclass carries its status, type and title.

    The message becomes `detail`, so it must not hold anything the caller sent.
    """

    status_code = 500
    type = "internal"
    title = "Something went wrong here"
    keeps_changes = False
    """Whether what the request wrote is committed although it fails, e.g. a revocation."""

    def __init__(self, detail: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """Return the response headers that belong to this failure."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class NotFoundError(PlatformError):
    """The thing asked for does not exist for this caller."""

    status_code = 404
    type = "not-found"
    title = "There is nothing at this address"


class OverloadedError(PlatformError):
    """More work is waiting than can be done in time."""

    status_code = 503
    type = "overloaded"
    title = "Too much work is waiting; try again shortly"

    def __init__(self, detail: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class UnavailableError(PlatformError):
    """Something this service cannot do without is away."""

    status_code = 503
    type = "unavailable"
    title = "A part this request needs is away; try again shortly"

    def __init__(self, detail: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class BodyTooLargeError(PlatformError):
    """The body is longer than this service reads."""

    status_code = 413
    type = "body-too-large"
    title = "The body is too large"


def problem(
    *,
    status: int,
    type_: str,
    title: str,
    detail: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem+json response; `request_id` is the one bound to the running request."""
    body: dict[str, Any] = {"type": PROBLEM_TYPE + type_, "title": title, "status": status}
    if detail:
        body["detail"] = detail
    if errors:
        body["errors"] = list(errors)
    body["request_id"] = structlog.contextvars.get_contextvars().get("request_id", "")
    return Response(
        orjson.dumps(body),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every failure in the one shape."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    for away in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(away, _database_away)


async def _platform_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)  # noqa: S101 - registered for this class alone
    return problem(
        status=error.status_code,
        type_=error.type,
        title=error.title,
        detail=error.detail,
        headers=error.headers,
    )


async def _database_away(request: Request, error: Exception) -> Response:
    """Answer 503: the database is away, locked or full, and what the request wrote was rolled back."""
    cause = getattr(error, "orig", None) or error
    _log.error("database.failed", error=type(error).__name__, reason=str(cause)[:200])
    return await _platform_error(request, UnavailableError("The database does not answer."))


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        reason = str(found[0].get("ctx", {}).get("error", ""))
        return problem(
            status=400, type_="malformed-json", title="The body is not JSON this service reads", detail=reason
        )
    return problem(
        status=422,
        type_="invalid-request",
        title="The request has values this service does not take",
        errors=[{"field": _field(item), "message": _message(item)} for item in found[:20]],
    )


def _field(item: Mapping[str, Any]) -> str:
    """Name a field by our own names; a key that the caller made up may hold anything and is not repeated."""
    location: list[int | str] = list(item["loc"])
    ours = len(location) - (item["type"] == "extra_forbidden")
    if _FREE_KEYS in location:
        ours = min(ours, location.index(_FREE_KEYS) + 1)
    return ".".join(
        str(part) if isinstance(part, int) or (position < ours and _FIELD.fullmatch(part)) else "?"
        for position, part in enumerate(location)
    )


def _message(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "this field is not known"
    if item["type"] in _TELLING_TYPES:
        return "this value is not valid"
    message = str(item["msg"])
    # what follows in that message quotes the part of the address that is wrong
    return _EMAIL_MESSAGE if message.startswith(_EMAIL_MESSAGE) else message


async def _http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    type_, title = _STATUS_TITLES.get(error.status_code, ("http-error", "The request was refused"))
    return problem(status=error.status_code, type_=type_, title=title, headers=error.headers)
