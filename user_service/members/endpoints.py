"""Routes of admins about the people of their institution, and of those who were invited."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.errors import NotFoundError, OverloadedError
from common.four_eyes import NotEligibleError, SecondPersonNeededError
from common.paging import Cursor, Limit
from common.problems import Responses, refusals
from common.strict_json import StrictRoute
from user_service.approvals.schemas import ApprovalView
from user_service.approvals.service import ApprovalPendingError
from user_service.attempts.service import TooManyAttemptsError
from user_service.auth.schemas import Tokens
from user_service.auth.session_tokens import InstitutionSuspendedError
from user_service.auth.weak_passwords import WeakPasswordError
from user_service.mailed_tokens.desk import InvalidMailedTokenError
from user_service.mailed_tokens.schemas import TokenMailed
from user_service.members.changing import LastAdminError, RoleNotOfferedError
from user_service.members.granting import Granting
from user_service.members.invitation_limits import TooManyInvitationsError
from user_service.members.invitations import Joining
from user_service.members.schemas import (
    Acceptance,
    ChangedMember,
    Invitation,
    Member,
    MemberChange,
    MemberPage,
)
from user_service.members.service import AlreadyJoinedError, Members, OwnAccountError, UserDisabledError, by
from user_service.origin import OriginDep
from user_service.second_factors.service import SecondFactorOffError
from user_service.users.repository import EmailTakenError

_ASKED: Responses = {202: {"model": ApprovalView, "description": "It waits for a second person"}}
_ASKING = (RoleNotOfferedError, NotEligibleError, SecondPersonNeededError, ApprovalPendingError)
router = APIRouter(prefix="/v1/users", route_class=StrictRoute, tags=["users"])
joining = APIRouter(prefix="/v1/auth/invitations", route_class=StrictRoute, tags=["authentication"])
CanReadUsers = Annotated[Principal, Depends(require_scope(Scope.USERS_READ))]
CanWriteUsers = Annotated[Principal, Depends(require_scope(Scope.USERS_WRITE))]


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


@router.get("")
async def list_users(
    caller: CanReadUsers,
    session: SessionDep,
    members: MembersDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> MemberPage:
    """Return the people of the caller's institution in the order they came, a page at a time."""
    return await members.read_page(session, by(caller), cursor=cursor, limit=limit)


@router.post(
    "",
    status_code=201,
    response_model=Member,
    responses=_ASKED | refusals(*_ASKING, EmailTakenError, TooManyInvitationsError),
)
async def invite_user(
    invitation: Invitation, caller: CanWriteUsers, session: SessionDep, granting: GrantingDep
) -> Member | Response:
    """Invite somebody: they get a mail with a token that lets them choose a password within seven days.

    The answer is the same whether the address has an account elsewhere or not; the mail says so to its owner.
    Somebody who has not joined once the invitation has expired is removed.

    An admin is only invited once a second person has agreed under `/v1/approvals`: then the answer is 202. The only
    admin of a sandbox institution does it alone.
    """
    return _answer(await granting.invite(session, caller, invitation, now_ms=epoch_ms()))


@router.get("/{user_id}", responses=refusals(NotFoundError))
async def read_user(
    user_id: Identifier, caller: CanReadUsers, session: SessionDep, members: MembersDep
) -> Member:
    """Return one person of the caller's institution."""
    return await members.read(session, by(caller), user_id)


@router.patch(
    "/{user_id}",
    response_model=ChangedMember,
    responses=_ASKED | refusals(*_ASKING, NotFoundError, OwnAccountError, LastAdminError),
)
async def change_user(
    user_id: Identifier,
    change: MemberChange,
    caller: CanWriteUsers,
    session: SessionDep,
    granting: GrantingDep,
) -> Member | Response:
    """Change somebody's role, disable or enable them. A new role or being disabled ends all their sessions.

    API keys belong to the institution and go on without whoever made them. The answer names those of somebody who may
    not make any more; with `revoke_api_keys` they end in the same step, everywhere within a minute.

    Making somebody an admin, or enabling one again, needs a second person, as inviting one does.
    """
    return _answer(await granting.change(session, caller, user_id, change, now_ms=epoch_ms()))


@router.post(
    "/{user_id}/invitation",
    status_code=202,
    responses=refusals(NotFoundError, AlreadyJoinedError, UserDisabledError, TooManyInvitationsError),
)
async def invite_again(
    user_id: Identifier, caller: CanWriteUsers, session: SessionDep, members: MembersDep
) -> TokenMailed:
    """Mail a new invitation to somebody who has not joined yet; earlier ones stop working."""
    return await members.invite_again(session, by(caller), user_id, now_ms=epoch_ms())


@router.delete(
    "/{user_id}/second-factor",
    status_code=204,
    responses=refusals(NotFoundError, OwnAccountError, SecondFactorOffError),
)
async def remove_second_factor_of(
    user_id: Identifier, caller: CanWriteUsers, session: SessionDep, members: MembersDep
) -> None:
    """Remove the second factor of somebody who has lost it, and end all their sessions."""
    await members.remove_second_factor(session, by(caller), user_id, now_ms=epoch_ms())


@router.delete("/{user_id}/sessions", status_code=204, responses=refusals(NotFoundError, OwnAccountError))
async def end_sessions_of(
    user_id: Identifier, caller: CanWriteUsers, session: SessionDep, members: MembersDep
) -> None:
    """Log somebody out everywhere; their access tokens are refused within a minute."""
    await members.end_sessions(session, by(caller), user_id, now_ms=epoch_ms())


@joining.post(
    "/accept",
    responses=refusals(
        InvalidMailedTokenError,
        InstitutionSuspendedError,
        EmailTakenError,
        WeakPasswordError,
        TooManyAttemptsError,
        OverloadedError,
    ),
)
async def accept_invitation(
    acceptance: Acceptance, session: SessionDep, opened: JoiningDep, origin: OriginDep
) -> Tokens:
    """Join with the token from the mail and a password of one's own; the answer is a session."""
    return await opened.accept(session, acceptance, origin, now_ms=epoch_ms())
