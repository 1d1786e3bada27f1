"""Routes about an institution's API keys."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.errors import NotFoundError
from common.paging import Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.api_keys.schemas import ApiKey, ApiKeyPage, IssuedApiKey, NewApiKey, Rotation
from user_service.api_keys.service import ApiKeys, ExpiryOutOfRangeError, KeyEndedError, TooManyKeysError

USUAL_ROTATION = Rotation()
router = APIRouter(prefix="/v1/api-keys", route_class=StrictRoute, tags=["API keys"])
CanRead = Annotated[Principal, Depends(require_scope(Scope.API_KEYS_READ))]
CanWrite = Annotated[Principal, Depends(require_scope(Scope.API_KEYS_WRITE))]


async def _api_keys(request: Request) -> ApiKeys:
    api_keys: ApiKeys = request.state.api_keys
    return api_keys


ApiKeysDep = Annotated[ApiKeys, Depends(_api_keys)]


@router.post(
    "",
    status_code=201,
    responses=refusals(TooManyKeysError, ExpiryOutOfRangeError),
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
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ApiKeyPage:
    """Return the institution's API keys, newest first, also those that have ended."""
    return await api_keys.page(session, caller, cursor=cursor, limit=limit, now_ms=epoch_ms())


@router.get("/{key_id}", responses=refusals(NotFoundError))
async def read_api_key(
    key_id: Identifier, caller: CanRead, session: SessionDep, api_keys: ApiKeysDep
) -> ApiKey:
    """Return one API key, without its text."""
    return await api_keys.read(session, caller, key_id, now_ms=epoch_ms())


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    responses=refusals(NotFoundError, KeyEndedError, TooManyKeysError),
)
async def rotate_api_key(
    key_id: Identifier,
    caller: CanWrite,
    session: SessionDep,
    api_keys: ApiKeysDep,
    rotation: Rotation = USUAL_ROTATION,
) -> IssuedApiKey:
    """Make a new key in the place of another, which goes on for `overlap_hours`; without a body for a day."""
    return await api_keys.rotate(session, caller, key_id, rotation, now_ms=epoch_ms())


@router.delete("/{key_id}", status_code=204, responses=refusals(NotFoundError))
async def revoke_api_key(
    key_id: Identifier, caller: CanWrite, session: SessionDep, api_keys: ApiKeysDep
) -> None:
    """End an API key for good, and the tokens that were made from it; everywhere within `ACCESS_POLL_S`."""
    await api_keys.revoke(session, caller, key_id, now_ms=epoch_ms())
