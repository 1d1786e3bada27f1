"""JSON as the doors accept it: UTF-8 only, no duplicate keys, no NaN or Infinity, decimals exact; and its route.

`read_model` is the one way from the bytes of a body to a checked model, for every door.
"""

import json
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, Never, TypeVar, get_origin

import orjson
from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, QueryParams

from common.auth.bearer import admission, is_guarded
from common.auth.principal import ForbiddenError, UnauthenticatedError
from common.cursors import CursorInvalidError
from common.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    MalformedJsonError,
    PlatformError,
    UnavailableError,
)
from common.problems import Responses, with_refusals
from common.rate_limits.limiting import RateLimitedError

MAX_NUMBER_CHARACTERS = 64
MAX_EXPONENT = 400  # beyond a float; making an integer of 1e999999999 would take all memory
_JSON_TYPE = re.compile(r'application/json(?:[ \t]*;[ \t]*charset="?utf-8"?)?[ \t]*', re.IGNORECASE)
_NOT_QUICK: Final = object()
_EMPTY_BODY = {"type": "missing", "loc": ("body",), "msg": "Field required"}
ModelT = TypeVar("ModelT", bound=BaseModel)
ReadBody = Callable[[bytes, type[BaseModel]], BaseModel]


class UnsupportedMediaTypeError(PlatformError):
    """The body is not declared as plain JSON in UTF-8."""

    status_code = 415
    type = "unsupported-media-type"
    title = "The body has a type that is not taken here"

    @property
    def headers(self) -> dict[str, str]:
        """Say what is taken, as RFC 9110 has it."""
        return {"Accept": "application/json", "Accept-Encoding": "identity"}


def read_model(body: bytes, model: type[ModelT], *, exact: bool = True) -> ModelT:
    """Return `body` as a checked `model`; unless `exact`, numbers with a point may be read as floats.

    Raises `MalformedJsonError` and `InvalidRequestError`; neither holds a part of the body.
    """
    if not body:
        raise InvalidRequestError([_EMPTY_BODY])
    try:
        return model.__pydantic_validator__.validate_python(loads(body, exact=exact))  # type: ignore[no-any-return]
    except json.JSONDecodeError as error:
        raise MalformedJsonError(error.msg) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    raise InvalidRequestError([{**item, "loc": ("body", *item["loc"])} for item in found])


def loads(body: bytes, *, exact: bool = True) -> Any:  # noqa: ANN401 - any JSON value
    """Parse `body`; numbers with a point or exponent become `Decimal`, or perhaps float unless `exact`.

    Raises `json.JSONDecodeError`, whose message never holds a part of the body.
    """
    value = _quick(body) if exact else _quick_with_floats(body)
    return read_strictly(body) if value is _NOT_QUICK else value


def read_strictly(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Do what `loads` does, the thorough way; it only goes another where that cannot make a difference."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _refusal("the body is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise _refusal("the body starts with a byte order mark")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise json.JSONDecodeError(error.msg, "", 0) from None
    except (RecursionError, ValueError):
        raise _refusal("the body is not JSON that can be read") from None


class StrictRoute(APIRoute):
    """A route that asks who is calling before it looks at anything else, and knows its parameters and its body.

    Without a good token nothing of the query or the body is parsed. Query parameters nobody asked for, or given
    twice, are refused, and so is a body that is not declared as JSON. A body with a default may be left out.
    All that it refuses is in the API document.
    """

    read_body: ReadBody = staticmethod(read_model)

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        responses: Responses | None = None,
        **options: Any,  # noqa: ANN401 - FastAPI's
    ) -> None:
        super().__init__(path, endpoint, responses=responses, **options)
        self.responses = with_refusals(responses or {}, self._own_refusals())

    def _own_refusals(self) -> Iterator[type[PlatformError]]:
        """Yield what is refused before the endpoint is called, and what every endpoint may answer."""
        yield from (InvalidRequestError, RateLimitedError, UnavailableError)
        if is_guarded(self.dependant):
            yield from (UnauthenticatedError, ForbiddenError)
        if self.body_field is not None:
            yield from (MalformedJsonError, BodyTooLargeError, UnsupportedMediaTypeError)
        if "cursor" in _parameters(self.dependant):
            yield CursorInvalidError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler, given requests that were checked."""
        handler = super().get_route_handler()
        admit = admission(self.dependant)
        parameters = _parameters(self.dependant)
        model = _body_model(self)
        may_be_empty = self.body_field is not None and not self.body_field.field_info.is_required()

        async def handle(request: Request) -> Response:
            await admit(request)
            check_query(request.query_params, parameters)
            if model is None:
                return await handler(request)
            checked = _CheckedRequest(request.scope, request.receive)
            if may_be_empty and not await checked.body():
                return await handler(checked)
            check_media_type(request.headers)
            checked.model = self.read_body(await checked.body(), model)
            return await handler(checked)

        return handle


def model_route(model: type[BaseModel]) -> type[APIRoute]:
    """Return a route class for bodies that are a large `model` from one of our own services.

    Their decimals are floats on the other side too, so they are read as floats at once.
    """

    class ModelRoute(StrictRoute):
        read_body = staticmethod(partial(read_model, exact=False))

    return ModelRoute


def check_media_type(headers: Headers) -> None:
    """Raise `UnsupportedMediaTypeError` unless the body is declared once, as plain JSON in UTF-8."""
    types = headers.getlist("content-type")
    if len(types) != 1 or not _JSON_TYPE.fullmatch(types[0]) or "content-encoding" in headers:
        raise UnsupportedMediaTypeError


def check_query(query: QueryParams, parameters: Mapping[str, bool]) -> None:
    """Raise `InvalidRequestError` for a parameter that is unknown, or given twice where `parameters` allow one."""
    wrong: list[dict[str, Any]] = []
    seen: set[str] = set()
    for name, _ in query.multi_items():
        if name not in parameters:
            wrong.append({"type": "extra_forbidden", "loc": ("query", name), "msg": ""})
        elif name in seen and not parameters[name]:
            wrong.append({"type": "repeated", "loc": ("query", name), "msg": "this parameter is given twice"})
        seen.add(name)
    if wrong:
        raise InvalidRequestError(wrong)


class _CheckedRequest(Request):
    """A request whose body was read; FastAPI passes on a model that is already one."""

    model: BaseModel

    async def json(self) -> BaseModel:
        return self.model


def _parameters(dependant: Dependant) -> dict[str, bool]:
    """Return the query parameters of a route, and whether each may be given more than once."""
    found = {
        field.alias: get_origin(field.field_info.annotation) in {list, set, tuple}
        for field in dependant.query_params
    }
    for needed in dependant.dependencies:
        found.update(_parameters(needed))
    return found


def _body_model(route: APIRoute) -> type[BaseModel] | None:
    """Return the model of a route's body; None where it takes none."""
    if route.body_field is None:
        return None
    model = route.body_field.field_info.annotation
    if not isinstance(model, type) or not issubclass(model, BaseModel):
        raise TypeError(f"the body of {route.path} is not one model")
    return model


def _quick(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return `body` as orjson reads it if that loses nothing, otherwise `_NOT_QUICK`.

    orjson keeps the last of two equal keys and makes floats of decimals and of huge integers. When every string of
    the text, keys included, is found in the value, no key was there twice.
    """
    if b"\\" in body:
        return _NOT_QUICK
    try:
        value = orjson.loads(body)
        strings = _strings(value)
    except (ValueError, RecursionError):
        return _NOT_QUICK
    return value if 2 * strings == body.count(b'"') else _NOT_QUICK


def _quick_with_floats(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Do the same where decimals may be floats, if `body` is just as orjson writes it: so our own services do."""
    try:
        value = orjson.loads(body)
        return value if orjson.dumps(value) == body else _NOT_QUICK
    except (ValueError, TypeError):
        return _NOT_QUICK


def _strings(value: Any) -> int:  # noqa: ANN401 - any JSON value
    """Count the strings in `value`, keys included; raises `ValueError` for a float."""
    kind = type(value)
    if kind is dict:
        count, items = len(value), value.values()
    elif kind is list:
        count, items = 0, value
    else:
        if kind is float:
            raise ValueError("not exact")
        return int(kind is str)
    for item in items:
        kind = type(item)
        if kind is str:
            count += 1
        elif kind is dict or kind is list or kind is float:
            count += _strings(item)
    return count


def _refusal(reason: str) -> json.JSONDecodeError:
    return json.JSONDecodeError(reason, "", 0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _refusal("an object has the same key twice")
    return made


def _exact(number: str) -> Decimal:
    if len(number) > MAX_NUMBER_CHARACTERS:
        raise _refusal("a number is too long")
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise _refusal("a number is out of range") from None
    if abs(value.adjusted()) > MAX_EXPONENT:
        raise _refusal("a number is out of range")
    return value


def _integer(number: str) -> int:
    if len(number) > MAX_NUMBER_CHARACTERS:
        raise _refusal("a number is too long")
    return int(number)


def _no_constant(_name: str) -> Never:
    raise _refusal("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_exact, parse_int=_integer, parse_constant=_no_constant
)
