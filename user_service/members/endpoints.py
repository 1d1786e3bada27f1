"""Routes of admins about the people of their institution, and of those who were invited."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.approvals.schemas import ApprovalView
from user_service.auth.schemas import Tokens
from user_service.members.granting import Granting
from user_service.members.invitations import Joining
from user_service.members.schemas import Acceptance, Invitation, Member, MemberChange, MemberPage
from user_service.members.service import Members, by
from user_service.sessions.origin import OriginDep

_ASKED: dict[int | str, dict[str, Any]] = {
    202: {"model": ApprovalView, "description": "It waits for a second person"}
}
_READ_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token"},
    403: {"description": "The access token does not allow this"},
    503: {"description": "The database is away; see Retry-After"},
}
_ONE_REFUSALS: dict[int | str, dict[str, Any]] = {
    **_READ_REFUSALS,
    404: {"description": "The institution has no such user"},
}
_CHANGE_REFUSALS: dict[int | str, dict[str, Any]] = {
    **_ONE_REFUSALS,
    409: {"description": "It is the caller, the last admin, or a user in another state; the type says which"},
}
_BODY: dict[int | str, dict[str, Any]] = {400: {"description": "The body is not JSON that is read here"}}
_MAILED: dict[int | str, dict[str, Any]] = {
    429: {"description": "Too many invitations were mailed; see Retry-After"}
}
_INVITE_REFUSALS: dict[int | str, dict[str, Any]] = {
    **_BODY,
    **_READ_REFUSALS,
    409: {"description": "The e-mail address already has an account, or the role is not offered here"},
    **_MAILED,
}
_ACCEPT_REFUSALS: dict[int | str, dict[str, Any]] = {
    **_BODY,
    401: {"description": "The token is unknown, expired or used"},
    403: {"description": "The institution is suspended"},
    422: {"description": "A value is not taken here, or the password is too easy to guess"},
    429: {"description": "Too many attempts failed; see Retry-After"},
    503: {"description": "Too many passwords are being hashed, or the database is away; see Retry-After"},
}
router = APIRouter(prefix="/v1/users", route_class=StrictRoute, tags=["users"])
joining = APIRouter(prefix="/v1/auth/invitations", route_class=StrictRoute, tags=["authentication"])
CanReadUsers = Annotated[Principal, Depends(require_scope(Scope.USERS_READ))]
CanWriteUsers = Annotated[Principal, Depends(require_scope(Scope.USERS_WRITE))]
Page = Annotated[int, Query(ge=1, le=1_000_000)]
Limit = Annotated[int, Query(ge=1, le=200)]


async def _members(request: Request) -> Members:
    members: Members = request.state.members
    return members


async def _joining(request: Request) -> Joining:
    opened: Joining = request.state.joining
    return opened


async def _granting(request: Request) -> Granting:
    granting: Granting = request.state.granting
    return granting


def _answer(done: Member | ApprovalView) -> Member | Response:
    """Return what was done, or 202 with what waits for a second person."""
    if isinstance(done, Member):
        return done
    return Response(done.model_dump_json(), status_code=202, media_type="application/json")


GrantingDep = Annotated[Granting, Depends(_granting)]
MembersDep = Annotated[Members, Depends(_members)]
JoiningDep = Annotated[Joining, Depends(_joining)]


@router.get("", responses=_READ_REFUSALS)
async def list_users(
    caller: CanReadUsers, session: SessionDep, members: MembersDep, page: Page = 1, limit: Limit = 50
) -> MemberPage:
    """Return the people of the caller's institution, a page at a time."""
    return await members.read_page(session, by(caller), page=page, limit=limit)


@router.post("", status_code=201, response_model=Member, responses=_ASKED | _INVITE_REFUSALS)
async def invite_user(
    invitation: Invitation, caller: CanWriteUsers, session: SessionDep, granting: GrantingDep
) -> Member | Response:
    """Invite somebody: they get a mail with a token that lets them choose a password within seven days.

    An admin is only invited once a second person has agreed under `/v1/approvals`: then the answer is 202. The only
    admin of a sandbox institution does it alone.
    """
    return _answer(await granting.invite(session, caller, invitation, now_ms=epoch_ms()))


@router.get("/{user_id}", responses=_ONE_REFUSALS)
async def read_user(
    user_id: Identifier, caller: CanReadUsers, session: SessionDep, members: MembersDep
) -> Member:
    """Return one person of the caller's institution."""
    return await members.read(session, by(caller), user_id)


@router.patch("/{user_id}", response_model=Member, responses=_ASKED | _BODY | _CHANGE_REFUSALS)
async def change_user(
    user_id: Identifier,
    change: MemberChange,
    caller: CanWriteUsers,
    session: SessionDep,
    granting: GrantingDep,
) -> Member | Response:
    """Change somebody's role, disable or enable them. A new role or being disabled ends all their sessions.

    Making somebody an admin, or enabling one again, needs a second person, as inviting one does.
    """
    return _answer(await granting.change(session, caller, user_id, change, now_ms=epoch_ms()))


@router.post("/{user_id}/invitation", status_code=202, responses=_CHANGE_REFUSALS | _MAILED)
async def invite_again(
    user_id: Identifier, caller: CanWriteUsers, session: SessionDep, members: MembersDep
) -> None:
    """Mail a new invitation to somebody who has not joined yet; earlier ones stop working."""
    await members.invite_again(session, by(caller), user_id, now_ms=epoch_ms())


@router.delete("/{user_id}/second-factor", status_code=204, responses=_CHANGE_REFUSALS)
async def remove_second_factor_of(
    user_id: Identifier, caller: CanWriteUsers, session: SessionDep, members: MembersDep
) -> None:
    """Remove the second factor of somebody who has lost it, and end all their sessions."""
    await members.remove_second_factor(session, by(caller), user_id, now_ms=epoch_ms())


@router.delete("/{user_id}/sessions", status_code=204, responses=_CHANGE_REFUSALS)
async def end_sessions_of(
    user_id: Identifier, caller: CanWriteUsers, session: SessionDep, members: MembersDep
) -> None:
    """Log somebody out everywhere; their access tokens are refused within a minute."""
    await members.end_sessions(session, by(caller), user_id, now_ms=epoch_ms())


@joining.post("/accept", responses=_ACCEPT_REFUSALS)
async def accept_invitation(
    acceptance: Acceptance, session: SessionDep, opened: JoiningDep, origin: OriginDep
) -> Tokens:
    """Join with the token from the mail and a password of one's own; the answer is a session."""
    return await opened.accept(session, acceptance, origin, now_ms=epoch_ms())
