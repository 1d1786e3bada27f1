"""Routes for users about themselves."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import Person, require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.sessions.origin import OriginDep
from user_service.users.schemas import ProfileChange, UserProfile
from user_service.users.service import Profiles

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token, or its user is gone or disabled"},
    403: {"description": "The access token does not allow this"},
    503: {"description": "The database is away; see Retry-After"},
}
_CHANGE_REFUSALS: dict[int | str, dict[str, Any]] = {
    **_REFUSALS,
    400: {"description": "The body is not JSON that is read here"},
    403: {"description": "The access token does not allow this, or the current password is wrong"},
    422: {"description": "A value is not taken here, or the new password is too easy to guess"},
    429: {"description": "Too many attempts failed; see Retry-After"},
}
router = APIRouter(prefix="/v1/users", route_class=StrictRoute, tags=["users"])
CanChangeProfile = Annotated[Principal, Depends(require_scope(Scope.PROFILE_WRITE))]


async def _profiles(request: Request) -> Profiles:
    profiles: Profiles = request.state.profiles
    return profiles


ProfilesDep = Annotated[Profiles, Depends(_profiles)]


@router.get("/me", responses=_REFUSALS)
async def read_me(caller: Person, session: SessionDep, profiles: ProfilesDep) -> UserProfile:
    """Return the caller's own profile and institution."""
    return await profiles.read(session, caller)


@router.patch("/me", responses=_CHANGE_REFUSALS)
async def change_me(
    change: ProfileChange,
    caller: CanChangeProfile,
    session: SessionDep,
    profiles: ProfilesDep,
    origin: OriginDep,
) -> UserProfile:
    """Change the caller's own name or password. A new password ends all their other sessions."""
    return await profiles.change(session, caller, change, origin, now_ms=epoch_ms())
