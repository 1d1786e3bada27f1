"""FastAPI's view of the gate: dependencies that endpoints name to say who may call them."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from common.auth.keys import TokenVerifier
from common.auth.principal import Principal, UnauthenticatedError
from common.contracts.tokens import Scope
from common.logging import add_facts

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token from user_service")


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Return the caller; raises `UnauthenticatedError` when there is not exactly one good bearer token."""
    if credentials is None or not _is_plain(request, credentials):
        raise UnauthenticatedError
    verifier: TokenVerifier = request.state.token_verifier
    principal = await verifier.verify(credentials.credentials)
    add_facts(caller=principal.subject)
    return principal


def _is_plain(request: Request, credentials: HTTPAuthorizationCredentials) -> bool:
    """Say whether the one header is scheme, space and token; FastAPI strips what Unicode calls white space."""
    return request.headers.getlist("authorization") == [f"{credentials.scheme} {credentials.credentials}"]


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


Person = Annotated[Principal, Depends(Requirement(Principal.require_person))]
"""A verified person: whoever logged in, but no API key and no service."""


def require_service(scope: Scope) -> Requirement:
    """Make a dependency for internal routes: it lets through services that hold `scope`, and nobody else."""
    return Requirement(lambda caller: caller.require_service(scope))


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
