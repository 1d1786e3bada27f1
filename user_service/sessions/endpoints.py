"""Routes of users about their own sessions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.sessions.schemas import OpenSessions
from user_service.sessions.service import Sessions
from user_service.users.endpoints import CanChangeProfile

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token, or its user is gone or disabled"},
    403: {"description": "The access token does not allow this"},
    503: {"description": "The database is away; see Retry-After"},
}
_ONE_REFUSALS: dict[int | str, dict[str, Any]] = {
    **_REFUSALS,
    404: {"description": "The caller has no such open session"},
}
router = APIRouter(prefix="/v1/users/me/sessions", route_class=StrictRoute, tags=["users"])


async def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(_sessions)]


@router.get("", responses=_REFUSALS)
async def list_sessions(caller: CanChangeProfile, session: SessionDep, sessions: SessionsDep) -> OpenSessions:
    """Return where the caller is logged in."""
    return await sessions.read(session, caller, now_ms=epoch_ms())


@router.delete("", status_code=204, responses=_REFUSALS)
async def end_other_sessions(caller: CanChangeProfile, session: SessionDep, sessions: SessionsDep) -> None:
    """End all of the caller's sessions but this one."""
    await sessions.end_others(session, caller, now_ms=epoch_ms())


@router.delete("/{session_id}", status_code=204, responses=_ONE_REFUSALS)
async def end_one_session(
    session_id: Identifier, caller: CanChangeProfile, session: SessionDep, sessions: SessionsDep
) -> None:
    """End one of the caller's sessions; its access token is refused within a minute."""
    await sessions.end_one(session, caller, session_id, now_ms=epoch_ms())
