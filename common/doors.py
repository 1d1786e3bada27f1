"""What the doors in front of FastAPI have in common: they answer plainly good requests, and hand on every other one.

FastAPI takes longer to find and call a route than such a request takes to answer. A door reads the same body with the same
parser and knows the same callers; whatever is odd about a request is the route's to say, which gets it untouched.
"""

from typing import Final

from starlette.types import Message, Receive, Scope

from common.auth.keys import TokenVerifier
from common.auth.principal import Principal

CONTENT_TYPE: Final = (b"content-type", b"application/json")
JSON_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
READ: Final = frozenset({b"authorization", b"x-api-key", b"content-type", b"content-encoding"})
_BEARER: Final = b"Bearer "


def plain_headers(scope: Scope, message: Message, *names: bytes) -> dict[bytes, bytes] | None:
    """Return the headers that are read here and those called `names`; None where the route has to look.

    That is: where there is a query, one of them twice, or a body that is not one piece of JSON.
    """
    if scope["query_string"] or message["type"] != "http.request" or message.get("more_body", False):
        return None
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in READ or name in names:
            if name in found:
                return None
            found[name] = value
    if found.get(b"content-type") not in JSON_TYPES or b"content-encoding" in found:
        return None
    return found


def plain_caller(headers: dict[bytes, bytes], verifier: TokenVerifier) -> Principal | None:
    """Return who holds the one credential, an API key or a token that was verified before."""
    authorization, api_key = headers.get(b"authorization"), headers.get(b"x-api-key")
    if authorization is None:
        return None if api_key is None else verifier.holder_of(api_key)
    if api_key is not None or not authorization.startswith(_BEARER):
        return None
    return verifier.remembered(authorization.removeprefix(_BEARER).decode("latin-1"))


def again(message: Message, receive: Receive) -> Receive:
    """Return a `receive` that hands on `message` before anything else."""
    first = [message]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
