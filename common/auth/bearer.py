"""FastAPI's view of the gate: dependencies that endpoints name to say who may call them."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from common.auth.keys import TokenVerifier
from common.auth.principal import Principal, UnauthenticatedError
from common.contracts.tokens import Scope, TokenUse
from common.logging import add_facts

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token from user_service")


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Return the caller; raises `UnauthenticatedError` when there is not exactly one good bearer token."""
    if credentials is None or len(request.headers.getlist("authorization")) != 1:
        raise UnauthenticatedError
    verifier: TokenVerifier = request.state.token_verifier
    principal = await verifier.verify(credentials.credentials)
    add_facts(caller=principal.subject)
    return principal


Caller = Annotated[Principal, Depends(authenticate)]
"""Any verified caller."""


class Requirement:
    """A dependency that lets through callers of one kind who hold one scope."""

    def __init__(self, scope: Scope, use: TokenUse) -> None:
        self._scope = scope
        self._use = use

    async def __call__(self, caller: Caller) -> Principal:
        """Return the caller; raises `ForbiddenError`."""
        caller.require(self._scope, use=self._use)
        return caller

    async def admit(self, request: Request) -> None:
        """Do the same for a request that no dependency has looked at yet."""
        await self(await _admit(request))


def require_user(scope: Scope) -> Requirement:
    """Make a dependency that lets through users who hold `scope`."""
    return Requirement(scope, TokenUse.USER)


def require_service(scope: Scope) -> Requirement:
    """Make a dependency for internal routes: it lets through services that hold `scope`, and never a user."""
    return Requirement(scope, TokenUse.SERVICE)


def admission(dependant: Dependant) -> Callable[[Request], Awaitable[None]]:
    """Return what lets a request through to a route, by all that its dependencies ask of the caller.

    FastAPI reads a body before it calls any dependency; a route that calls this first reads it for nobody else.
    """
    calls = set(_calls(dependant))
    checks: list[Callable[[Request], Awaitable[object]]] = [
        call.admit for call in calls if isinstance(call, Requirement)
    ]
    if not checks and authenticate in calls:
        checks = [_admit]

    async def admit(request: Request) -> None:
        for check in checks:
            await check(request)

    return admit


async def _admit(request: Request) -> Principal:
    return await authenticate(request, await _bearer(request))


def _calls(dependant: Dependant) -> Iterator[object]:
    for needed in dependant.dependencies:
        yield needed.call
        yield from _calls(needed)
