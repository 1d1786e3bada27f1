"""Routes of users about their own sessions."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.db import SessionDep
from common.errors import NotFoundError
from common.paging import Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.sessions.schemas import OpenSessions
from user_service.sessions.service import Sessions
from user_service.users.acting import CanChangeProfile

router = APIRouter(prefix="/v1/users/me/sessions", route_class=StrictRoute, tags=["users"])


async def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(_sessions)]


@router.get("")
async def list_sessions(
    caller: CanChangeProfile,
    session: SessionDep,
    sessions: SessionsDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> OpenSessions:
    """Return where the caller is logged in, the newest login first, a page at a time."""
    return await sessions.page(session, caller, cursor=cursor, limit=limit, now_ms=epoch_ms())


@router.delete("", status_code=204)
async def end_other_sessions(caller: CanChangeProfile, session: SessionDep, sessions: SessionsDep) -> None:
    """End all of the caller's sessions but this one."""
    await sessions.end_others(session, caller, now_ms=epoch_ms())


@router.delete("/{session_id}", status_code=204, responses=refusals(NotFoundError))
async def end_one_session(
    session_id: Identifier, caller: CanChangeProfile, session: SessionDep, sessions: SessionsDep
) -> None:
    """End one of the caller's sessions; its access token is refused within a minute."""
    await sessions.end_one(session, caller, session_id, now_ms=epoch_ms())
