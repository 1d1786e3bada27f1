"""JSON as the doors accept it: UTF-8 only, no duplicate keys, no NaN or Infinity, decimals exact."""

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal, InvalidOperation
from typing import Any, Never

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

MAX_NUMBER_CHARACTERS = 64
MAX_EXPONENT = 400  # beyond a float; making an integer of 1e999999999 would take all memory


def loads(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse `body`; numbers with a point or exponent become `Decimal`.

    Raises `json.JSONDecodeError`, whose message never holds a part of the body.
    """
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
    """A route whose JSON body is read by `loads`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler, given requests that parse strictly."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return handle


class _StrictRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - as Starlette declares it
        return loads(await self.body())


def model_route(model: type[BaseModel]) -> type[APIRoute]:
    """Return a route class for bodies that are a large `model` from one of our own services.

    Text to checked model is one native step, ten times as fast as two. What does not pass is parsed plainly, so
    that the route finds and reports what is wrong with it.
    """

    class ModelRequest(Request):
        async def json(self) -> Any:  # noqa: ANN401 - as Starlette declares it
            body = await self.body()
            try:
                return model.model_validate_json(body)
            except ValidationError:
                return loads(body)

    class ModelRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await handler(ModelRequest(request.scope, request.receive))

            return handle

    return ModelRoute


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
