"""The token endpoint of OAuth 2, for programs that exchange their API key."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.clock import epoch_ms
from common.db import SessionDep
from common.errors import BodyTooLargeError
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.oauth.requests import (
    ClientRefusedError,
    FormNeededError,
    GrantTypeError,
    ScopeRefusedError,
    TokenRequest,
    TokenRequestError,
    read_token_request,
)
from user_service.oauth.schemas import TOKEN_REQUEST, GrantedToken
from user_service.oauth.service import KeyExchange

_REFUSALS = (
    TokenRequestError,
    GrantTypeError,
    ScopeRefusedError,
    ClientRefusedError,
    BodyTooLargeError,
    FormNeededError,
)
router = APIRouter(prefix="/v1/auth", route_class=StrictRoute, tags=["authentication"])


async def _key_exchange(request: Request) -> KeyExchange:
    key_exchange: KeyExchange = request.state.key_exchange
    return key_exchange


async def _token_request(request: Request) -> TokenRequest:
    return read_token_request(
        await request.body(),
        content_types=request.headers.getlist("content-type"),
        authorizations=request.headers.getlist("authorization"),
    )


@router.post("/token", responses=refusals(*_REFUSALS), openapi_extra=TOKEN_REQUEST)
async def grant_token(
    request: Annotated[TokenRequest, Depends(_token_request)],
    session: SessionDep,
    exchange: Annotated[KeyExchange, Depends(_key_exchange)],
) -> GrantedToken:
    """Exchange an API key for an access token (RFC 6749 section 4.4): the key's id is the client id, the key the secret.

    Failures carry the RFC's `error` beside what every failure here has.
    """
    return await exchange.grant(session, request, now_ms=epoch_ms())
