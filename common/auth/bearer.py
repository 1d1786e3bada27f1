"""FastAPI's view of the gate: dependencies that endpoints name to say who may call them."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
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


def require_user(scope: Scope) -> Callable[[Principal], Awaitable[Principal]]:
    """Make a dependency that lets through users who hold `scope`."""
    return _require(scope, TokenUse.USER)


def require_service(scope: Scope) -> Callable[[Principal], Awaitable[Principal]]:
    """Make a dependency for internal routes: it lets through services that hold `scope`, and never a user."""
    return _require(scope, TokenUse.SERVICE)


def _require(scope: Scope, use: TokenUse) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(caller: Caller) -> Principal:
        caller.require(scope, use=use)
        return caller

    return check
