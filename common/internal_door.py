"""Internal routes that busy services call for every batch, once more as plain ASGI in front of FastAPI."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.auth.principal import Principal
from common.contracts.tokens import Scope as TokenScope
from common.doors import CONTENT_TYPE, again, plain_caller, plain_headers
from common.errors import PlatformError, render_problem
from common.logging import add_facts
from common.strict_json import read_model


@dataclass(frozen=True)
class InternalCall:
    """What a POST by one of our own services means: the model of its body, the scope it takes, and what is done.

    `accept` gets the service's state, the checked body and the caller; what it returns is the body of the 202.
    """

    model: type[Any]
    scope: TokenScope
    accept: Callable[[Mapping[str, Any], Any, Principal], Awaitable[BaseModel]]


class InternalDoor:
    """Answers plainly good calls of the routes in `calls`, by path; everything else is left to `app`.

    Nobody is counted here: rate limits do not bound our own services.
    """

    def __init__(self, app: ASGIApp, calls: Mapping[str, InternalCall]) -> None:
        self.app = app
        self._calls = calls
        self._routes = {
            path: SimpleNamespace(path=path) for path in calls
        }  # as FastAPI leaves them in the scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `scope`, here or in `app`."""
        call = self._calls.get(scope["path"]) if scope["type"] == "http" else None
        if call is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        message = await receive()
        understood = _understood(call, scope, message)
        if understood is None:
            await self.app(scope, again(message, receive), send)
            return
        body, caller = understood
        scope["route"] = self._routes[scope["path"]]
        add_facts(caller=caller.subject)
        try:
            accepted = await call.accept(scope["state"], body, caller)
        except Exception as error:  # noqa: BLE001 - what is not expected is raised again
            problem = render_problem(error)
            headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
            await _answer(send, problem.status, headers, problem.body)
        else:
            answer = accepted.model_dump_json().encode()
            length = (b"content-length", b"%d" % len(answer))
            await _answer(send, 202, [CONTENT_TYPE, length], answer)


def internal_door(calls: Mapping[str, InternalCall]) -> Callable[[ASGIApp], ASGIApp]:
    """Return what puts a door for `calls` in front of an application."""
    return lambda app: InternalDoor(app, calls)


def _understood(call: InternalCall, scope: Scope, message: Message) -> tuple[Any, Principal] | None:
    """Return the body and the caller; None where the route has to look at it."""
    headers = plain_headers(scope, message)
    caller = None if headers is None else plain_caller(headers, scope["state"]["token_verifier"])
    if caller is None:
        return None
    try:
        caller.require_service(call.scope)
        return read_model(message["body"], call.model, exact=False), caller  # as `model_route` reads it
    except PlatformError:
        return None


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
