"""Expected failures and their one shape on the wire: RFC 9457 problem+json, which never echoes input."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from common.logging import request_id

PROBLEM_TYPE = "urn:assay:problem:"
MAX_ERRORS = 20
_FIELD = re.compile(r"(?!.*[0-9]{5})[A-Za-z_][A-Za-z0-9_]{0,39}\Z")
_FREE_KEYS = "metadata"  # the one field whose keys callers choose
_EMAIL_MESSAGE = "value is not a valid email address"
# pydantic's messages of these types hold a part of what was sent
_TELLING_TYPES = frozenset({"union_tag_invalid", "uuid_parsing", "url_parsing", "get_attribute_error"})
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
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
    errors: Sequence[Mapping[str, str]] = ()
    """The fields that are wrong, by our own names for them."""
    error = ""
    """The member `error` of the answer, where another standard asks for one."""
    members: Mapping[str, object] = MappingProxyType({})
    """What else the answer says, in our own words and never the caller's."""
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


class MalformedJsonError(PlatformError):
    """The body is not the JSON that is read here; the message never holds a part of it."""

    status_code = 400
    type = "malformed-json"
    title = "The body is not JSON this service reads"


class InvalidRequestError(PlatformError):
    """Values are missing, wrong or unknown; `found` is what pydantic says about them."""

    status_code = 422
    type = "invalid-request"
    title = "The request has values this service does not take"

    def __init__(self, found: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.errors = [{"field": _field(item), "message": _message(item)} for item in found[:MAX_ERRORS]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer that is ready to be sent; the headers name its type and length."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> Response:
        """Return the answer as Starlette sends it."""
        return Response(self.body, status_code=self.status, headers=self.headers)


def render_problem(error: Exception) -> Rendered:
    """Return the answer to a failure, whichever door it came through; an unexpected one is raised again.

    `request_id` is the one bound to the running request.
    """
    if isinstance(error, PlatformError):
        return _rendered(
            status=error.status_code,
            type_=error.type,
            title=error.title,
            headers=error.headers,
            members={
                "error": error.error,
                "detail": error.detail,
                "errors": list(error.errors),
                **error.members,
            },
        )
    if isinstance(error, RequestValidationError):
        return render_problem(_refused_request(error))
    if isinstance(error, HTTPException):
        type_, title = _STATUS_TITLES.get(error.status_code, ("http-error", "The request was refused"))
        return _rendered(
            status=error.status_code, type_=type_, title=title, headers=error.headers or {}, members={}
        )
    if isinstance(error, _DATABASE_AWAY):
        cause = getattr(error, "orig", None) or error
        _log.error("database.failed", error=type(error).__name__, reason=str(cause)[:200])
        return render_problem(UnavailableError("The database does not answer."))
    raise error


def problem(*, status: int, type_: str, title: str) -> Response:
    """Return a problem+json response that no exception stands for."""
    return _rendered(status=status, type_=type_, title=title, headers={}, members={}).response()


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every failure in the one shape."""
    for expected in (PlatformError, RequestValidationError, HTTPException, *_DATABASE_AWAY):
        app.add_exception_handler(expected, _answer)
    app.add_exception_handler(Exception, _nothing)


class _Nothing(Response):
    """Sends nothing: Starlette raises an unexpected error again after its answer, and the layer outside answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave the request as it is."""


async def _nothing(_request: Request, _error: Exception) -> Response:
    return _Nothing()


async def _answer(_request: Request, error: Exception) -> Response:
    return render_problem(error).response()


def _rendered(
    *, status: int, type_: str, title: str, headers: Mapping[str, str], members: Mapping[str, object]
) -> Rendered:
    """Return a problem; of `members` those that say something."""
    body: dict[str, object] = {"type": PROBLEM_TYPE + type_, "title": title, "status": status}
    body.update((name, value) for name, value in members.items() if value)
    body["request_id"] = request_id()
    encoded = orjson.dumps(body)
    return Rendered(
        status,
        {
            **headers,
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(encoded)),
        },
        encoded,
    )


def _refused_request(error: RequestValidationError) -> PlatformError:
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        return MalformedJsonError(str(found[0].get("ctx", {}).get("error", "")))
    return InvalidRequestError(found)


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
    message = str(item["msg"]).removeprefix("Value error, ")
    # what follows in that message quotes the part of the address that is wrong
    return _EMAIL_MESSAGE if message.startswith(_EMAIL_MESSAGE) else message
