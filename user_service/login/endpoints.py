"""Routes that hand out tokens, and the keys that verify them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from common.clock import epoch_ms
from common.contracts.tokens import ServiceToken, ServiceTokenRequest
from common.db import SessionDep
from common.errors import OverloadedError
from common.problems import refusals
from common.rate_limits.limiting import RateLimits, count_later
from common.strict_json import StrictRoute
from user_service.attempts.service import TooManyAttemptsError
from user_service.auth.schemas import Credentials, KeySet, RefreshRequest, Tokens
from user_service.auth.service_clients import InvalidClientError
from user_service.auth.service_tokens import ServiceTokenDesk
from user_service.auth.session_tokens import InstitutionSuspendedError
from user_service.login.service import (
    Authentication,
    InvalidCodeError,
    InvalidCredentialsError,
    InvalidRefreshTokenError,
    SecondFactorNeededError,
)
from user_service.origin import OriginDep
from user_service.signing_keys.ring import KeyRing

JWKS_MAX_AGE_S = 60  # as often as the services fetch it

router = APIRouter(prefix="/v1/auth", route_class=StrictRoute, tags=["authentication"])
internal = APIRouter(prefix="/v1/internal", route_class=StrictRoute, tags=["internal"])
well_known = APIRouter(prefix="/.well-known", tags=["authentication"])


async def _authentication(request: Request) -> Authentication:
    authentication: Authentication = request.state.authentication
    return authentication


AuthenticationDep = Annotated[Authentication, Depends(_authentication)]


@router.post(
    "/login",
    responses=refusals(
        InvalidCredentialsError,
        SecondFactorNeededError,
        InvalidCodeError,
        InstitutionSuspendedError,
        TooManyAttemptsError,
        OverloadedError,
    ),
)
async def log_in(
    credentials: Credentials, session: SessionDep, authentication: AuthenticationDep, origin: OriginDep
) -> Tokens:
    """Start a session with e-mail address and password, and a code where the account has a second factor.

    The access token is sent as `Authorization: Bearer ...` to every service; the refresh token gets the next pair.
    """
    return await authentication.login(session, credentials, origin, now_ms=epoch_ms())


@router.post("/refresh", responses=refusals(InvalidRefreshTokenError, InstitutionSuspendedError))
async def refresh(
    body: RefreshRequest, session: SessionDep, authentication: AuthenticationDep, origin: OriginDep
) -> Tokens:
    """Replace a session's tokens by new ones. A refresh token works once.

    Showing one a second time ends its session, because it is then in two hands: callers send one refresh at a time.
    """
    return await authentication.refresh(session, body, origin, now_ms=epoch_ms())


@router.post("/logout", status_code=204)
async def log_out(body: RefreshRequest, session: SessionDep, authentication: AuthenticationDep) -> None:
    """End the session of a refresh token. Its access token is refused everywhere within a minute."""
    await authentication.logout(session, body, now_ms=epoch_ms())


@well_known.get("/jwks.json")
async def read_keys(request: Request, response: Response) -> KeySet:
    """Return the public keys that verify access tokens (RFC 7517)."""
    keys: KeyRing = request.state.keys
    response.headers["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE_S}"
    return KeySet.model_validate({"keys": keys.published(epoch_ms())})


@internal.post(
    "/service-tokens",
    dependencies=[Depends(count_later)],
    responses=refusals(InvalidClientError),
)
async def issue_service_token(credentials: ServiceTokenRequest, request: Request) -> ServiceToken:
    """Give one of our own services the token it shows to the others.

    Wrong secrets are counted for each client at each address; the right one is always taken.
    """
    desk: ServiceTokenDesk = request.state.service_tokens
    limits: RateLimits = request.state.rate_limits
    async with limits.service_secret(request, desk.counted_as(credentials)):
        return desk.issue(credentials, now_ms=epoch_ms())
