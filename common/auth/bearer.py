"""FastAPI's view of the gate: dependencies that endpoints name to say who may call them."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from common.auth.keys import TokenVerifier
from common.auth.principal import Principal
from common.contracts.tokens import Scope
from common.logging import add_facts
from common.rate_limits.limiting import RateLimits, count_unauthenticated

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token from user_service")


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Return the caller, whose request is counted.

    Raises `UnauthenticatedError` when there is not exactly one good bearer token, and `RateLimitedError`.
    """
    verifier: TokenVerifier = request.state.token_verifier
    limits: RateLimits = request.state.rate_limits
    is_single = credentials is not None and len(request.headers.getlist("authorization")) == 1
    token = credentials.credentials if credentials is not None and is_single else ""
    principal = verifier.remembered(token)
    if principal is None:
        with limits.unknown_credentials(request):
            principal = await verifier.verify(token)
    add_facts(caller=principal.subject)
    limits.count_caller(request.scope, principal)
    return principal


Caller = Annotated[Principal, Depends(authenticate)]
"""Any verified caller."""


class Requirement:
    """A dependency that lets through callers who pass one check."""

    def __init__(self, check: Callable[[Principal], None]) -> None:
        self._check = check

    async def __call__(self, caller: Caller) -> Principal:
        """Return the caller; raises `ForbiddenError`."""
        self._check(caller)
        return caller

    async def admit(self, request: Request) -> None:
        """Do the same for a request that no dependency has looked at yet."""
        await self(await _admit(request))


def require_scope(scope: Scope) -> Requirement:
    """Make a dependency that lets through whoever acts for an institution and holds `scope`: people and API keys."""
    return Requirement(lambda caller: caller.require(scope))


def require_service(scope: Scope) -> Requirement:
    """Make a dependency for internal routes: it lets through services that hold `scope`, and nobody else."""
    return Requirement(lambda caller: caller.require_service(scope))


def admission(dependant: Dependant) -> Callable[[Request], Awaitable[None]]:
    """Return what lets a request through to a route, by all that its dependencies ask of the caller.

    FastAPI reads a body before it calls any dependency; a route that calls this first reads it for nobody else. A
    route that asks nothing of the caller counts its requests by client address.
    """
    calls = set(_calls(dependant))
    checks: list[Callable[[Request], Awaitable[object]]] = [
        call.admit for call in calls if isinstance(call, Requirement)
    ]
    if not checks:
        checks = [_admit if authenticate in calls else count_unauthenticated]

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
