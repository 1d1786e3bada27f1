"""Routes about an institution's API keys."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.api_keys.schemas import ApiKey, ApiKeyPage, IssuedApiKey, NewApiKey, Rotation
from user_service.api_keys.service import ApiKeys

MAX_PAGE = 200
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token"},
    403: {"description": "The access token does not allow this"},
    422: {"description": "A value is not taken here"},
    503: {"description": "The database is away; see Retry-After"},
}
_BODY: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON that is read here"},
    415: {"description": "The body is not declared as JSON in UTF-8"},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such key in the caller's institution"}}
router = APIRouter(prefix="/v1/api-keys", route_class=StrictRoute, tags=["API keys"], responses=_REFUSALS)
CanRead = Annotated[Principal, Depends(require_scope(Scope.API_KEYS_READ))]
CanWrite = Annotated[Principal, Depends(require_scope(Scope.API_KEYS_WRITE))]


async def _api_keys(request: Request) -> ApiKeys:
    api_keys: ApiKeys = request.state.api_keys
    return api_keys


ApiKeysDep = Annotated[ApiKeys, Depends(_api_keys)]


@router.post(
    "",
    status_code=201,
    responses={**_BODY, 409: {"description": "The institution has as many keys as it may have"}},
)
async def create_api_key(
    wanted: NewApiKey, caller: CanWrite, session: SessionDep, api_keys: ApiKeysDep
) -> IssuedApiKey:
    """Make an API key. Its text is in this answer and nowhere else.

    It works everywhere within `ACCESS_POLL_S` (10 seconds).
    """
    return await api_keys.create(session, caller, wanted, now_ms=epoch_ms())


@router.get("")
async def list_api_keys(
    caller: CanRead,
    session: SessionDep,
    api_keys: ApiKeysDep,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[Identifier | None, Query(description="next_cursor of the page before")] = None,
) -> ApiKeyPage:
    """Return the institution's API keys, newest first, also those that have ended."""
    return await api_keys.page(session, caller, cursor=cursor, limit=limit, now_ms=epoch_ms())


@router.get("/{key_id}", responses=_UNKNOWN)
async def read_api_key(
    key_id: Identifier, caller: CanRead, session: SessionDep, api_keys: ApiKeysDep
) -> ApiKey:
    """Return one API key, without its text."""
    return await api_keys.read(session, caller, key_id, now_ms=epoch_ms())


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    responses={
        **_BODY,
        **_UNKNOWN,
        409: {"description": "The key is revoked, expired or replaced already"},
    },
)
async def rotate_api_key(
    key_id: Identifier, rotation: Rotation, caller: CanWrite, session: SessionDep, api_keys: ApiKeysDep
) -> IssuedApiKey:
    """Make a new key in the place of another, which goes on for `overlap_hours`; the body may be `{}`."""
    return await api_keys.rotate(session, caller, key_id, rotation, now_ms=epoch_ms())


@router.delete("/{key_id}", status_code=204, responses=_UNKNOWN)
async def revoke_api_key(
    key_id: Identifier, caller: CanWrite, session: SessionDep, api_keys: ApiKeysDep
) -> None:
    """End an API key for good, and the tokens that were made from it; everywhere within `ACCESS_POLL_S`."""
    await api_keys.revoke(session, caller, key_id, now_ms=epoch_ms())
