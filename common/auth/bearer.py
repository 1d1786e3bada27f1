"""FastAPI's view of the gate: dependencies that endpoints name to say who may call them."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from common.auth.keys import TokenVerifier
from common.auth.principal import Principal, UnauthenticatedError
from common.contracts.tokens import Scope, TokenUse
from common.errors import UnavailableError
from common.logging import add_facts
from common.rate_limits.limiting import RateLimits, count_later, count_unauthenticated

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token from user_service")
_api_key = APIKeyHeader(
    name="X-API-Key", auto_error=False, description="An API key of the institution, instead of a token"
)
_IDENTIFIED: Final = "assay.caller"  # in the scope: who sent this request was found out already


async def identify(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    api_key: Annotated[str | None, Depends(_api_key)],
) -> Principal:
    """Return the caller, whose request is counted; raises `UnauthenticatedError` unless one good credential is there.

    Raises `RateLimitedError`, and `UnavailableError` while it is not known yet who may get in.
    """
    known: Principal | None = request.scope.get(_IDENTIFIED)
    if known is not None:
        return known
    limits: RateLimits = request.state.rate_limits
    async with limits.credentials(request):
        principal = await _verified(request, credentials, api_key)
    request.scope[_IDENTIFIED] = principal
    add_facts(caller=principal.subject)
    await limits.count_caller(request.scope, principal)
    return principal


async def _verified(
    request: Request, credentials: HTTPAuthorizationCredentials | None, api_key: str | None
) -> Principal:
    verifier: TokenVerifier = request.state.token_verifier
    given = [*request.headers.getlist("authorization"), *request.headers.getlist("x-api-key")]
    if len(given) != 1:
        raise UnauthenticatedError
    if credentials is not None and given == [f"{credentials.scheme} {credentials.credentials}"]:
        # word for word: FastAPI strips what Unicode calls white space
        return await verifier.verify(credentials.credentials)
    if credentials is None and api_key is not None:
        return await verifier.verify_key(api_key.encode("latin-1"))
    raise UnauthenticatedError


Identified = Annotated[Principal, Depends(identify)]


async def authenticate(request: Request, caller: Identified) -> Principal:
    """Return the caller; raises `UnavailableError` too while rights that ended may have been missed."""
    _refuse_while_stale(request, caller)
    return caller


Caller = Annotated[Principal, Depends(authenticate)]
"""Any verified caller."""


class Admitting(ABC):
    """A dependency that looks at a request before its body is read; it counts the request too."""

    @abstractmethod
    async def admit(self, request: Request) -> None:
        """Let a request through, or raise."""


class Requirement(Admitting):
    """A dependency that lets through callers who pass one check.

    While it was not heard for a minute whose rights have ended, people and API keys are refused (503), except where a
    route goes on `while_stale`.
    """

    def __init__(self, check: Callable[[Principal], None], *, while_stale: bool = False) -> None:
        self._check = check
        self._while_stale = while_stale

    async def __call__(self, request: Request, caller: Identified) -> Principal:
        """Return the caller; raises `ForbiddenError` and `UnavailableError`."""
        self._check(caller)
        if not self._while_stale:
            _refuse_while_stale(request, caller)
        return caller

    async def admit(self, request: Request) -> None:
        """Do the same for a request that no dependency has looked at yet."""
        await self(request, await _identified(request))


def require_scope(scope: Scope, *, while_stale: bool = False) -> Requirement:
    """Make a dependency that lets through whoever acts for an institution and holds `scope`: people and API keys."""
    return Requirement(lambda caller: caller.require(scope), while_stale=while_stale)


Person = Annotated[Principal, Depends(Requirement(Principal.require_person))]
"""A verified person: whoever logged in, but no API key and no service."""


def require_service(scope: Scope) -> Requirement:
    """Make a dependency for internal routes: it lets through services that hold `scope`, and nobody else."""
    return Requirement(lambda caller: caller.require_service(scope))


def admission(dependant: Dependant) -> Callable[[Request], Awaitable[None]]:
    """Return what lets a request through to a route, by all that its dependencies ask of the caller.

    FastAPI reads a body before it calls any dependency; a route that calls this first reads it for nobody else. A
    route that asks nothing of the caller counts its requests by client address, unless it does so by itself.
    """
    calls = set(_calls(dependant))
    checks: list[Callable[[Request], Awaitable[object]]] = [
        call.admit for call in calls if isinstance(call, Admitting)
    ]
    if not checks and count_later not in calls:
        checks = [caller_of if authenticate in calls else count_unauthenticated]

    async def admit(request: Request) -> None:
        for check in checks:
            await check(request)

    return admit


def is_guarded(dependant: Dependant) -> bool:
    """Say whether a route lets through only those who are known, and who may."""
    return any(isinstance(call, Requirement) or call is authenticate for call in _calls(dependant))


async def caller_of(request: Request) -> Principal:
    """Return the caller of a request that no dependency has looked at yet; raises what `authenticate` raises."""
    return await authenticate(request, await _identified(request))


async def _identified(request: Request) -> Principal:
    return await identify(request, await _bearer(request), await _api_key(request))


def _refuse_while_stale(request: Request, caller: Principal) -> None:
    verifier: TokenVerifier = request.state.token_verifier
    if caller.use is not TokenUse.SERVICE and verifier.access.is_stale:
        raise UnavailableError("It is not known any more who may get in.")


def _calls(dependant: Dependant) -> Iterator[object]:
    for needed in dependant.dependencies:
        yield needed.call
        yield from _calls(needed)
