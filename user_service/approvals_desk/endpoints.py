"""Routes for what needs a second person."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.errors import NotFoundError
from common.four_eyes import (
    ApprovalClosedError,
    ApprovalState,
    AskerNotEligibleError,
    NotEligibleError,
    OwnRequestError,
    SecondPersonNeededError,
)
from common.paging import Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.approvals import reading
from user_service.approvals.schemas import ApprovalPage, ApprovalView
from user_service.approvals.service import FourEyes
from user_service.members.changing import LastAdminError, RoleNotOfferedError
from user_service.members.invitation_limits import TooManyInvitationsError
from user_service.members.service import OwnAccountError
from user_service.signing_keys.store import RotationUnderWayError
from user_service.users.repository import EmailTakenError

_DECIDING = (NotFoundError, OwnRequestError, NotEligibleError, ApprovalClosedError)
# what doing raises that was approved: inviting somebody, changing them, rotating the signing key
_DOING = (
    EmailTakenError,
    LastAdminError,
    OwnAccountError,
    RoleNotOfferedError,
    RotationUnderWayError,
    TooManyInvitationsError,
)
router = APIRouter(prefix="/v1/approvals", route_class=StrictRoute, tags=["approvals"])
platform = APIRouter(prefix="/v1/platform/approvals", route_class=StrictRoute, tags=["platform"])
CanSee = Annotated[Principal, Depends(require_scope(Scope.USERS_READ))]
CanDecide = Annotated[Principal, Depends(require_scope(Scope.USERS_WRITE))]
CanOperate = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_READ))]


async def four_eyes(request: Request) -> FourEyes:
    """Return where requests are made and decided on."""
    found: FourEyes = request.state.four_eyes
    return found


FourEyesDep = Annotated[FourEyes, Depends(four_eyes)]


@router.get("")
async def list_approvals(
    caller: CanSee,
    session: SessionDep,
    state: ApprovalState | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ApprovalPage:
    """Return the requests of the caller's institution, newest first; `may_approve` says which wait for the caller."""
    return await reading.read_page(
        session, caller, state=state, cursor=cursor, limit=limit, now_ms=epoch_ms()
    )


@router.get("/{approval_id}", responses=refusals(NotFoundError))
async def read_approval(approval_id: Identifier, caller: CanSee, session: SessionDep) -> ApprovalView:
    """Return one request."""
    return await reading.read_one(session, caller, approval_id, now_ms=epoch_ms())


@router.post(
    "/{approval_id}/approve",
    responses=refusals(*_DECIDING, SecondPersonNeededError, AskerNotEligibleError, *_DOING),
)
async def approve(
    approval_id: Identifier, caller: CanDecide, session: SessionDep, four_eyes: FourEyesDep
) -> ApprovalView:
    """Approve what another person asked for: it is done exactly as it was asked, before this is answered."""
    return await four_eyes.approve(session, caller, approval_id, now_ms=epoch_ms())


@router.post("/{approval_id}/refuse", responses=refusals(*_DECIDING))
async def refuse(
    approval_id: Identifier, caller: CanDecide, session: SessionDep, four_eyes: FourEyesDep
) -> ApprovalView:
    """Refuse what another person asked for."""
    return await four_eyes.refuse(session, caller, approval_id, now_ms=epoch_ms())


@router.post(
    "/{approval_id}/withdraw", responses=refusals(NotFoundError, NotEligibleError, ApprovalClosedError)
)
async def withdraw(
    approval_id: Identifier, caller: CanDecide, session: SessionDep, four_eyes: FourEyesDep
) -> ApprovalView:
    """Take back what the caller asked for."""
    return await four_eyes.withdraw(session, caller, approval_id, now_ms=epoch_ms())


@platform.get("")
async def list_for_operators(
    caller: CanOperate, session: SessionDep, limit: Limit = 50, cursor: Cursor = None
) -> ApprovalPage:
    """Return open requests of institutions that have no second admin: an operator is the second person there.

    They are decided on under `/v1/approvals/{approval_id}`.
    """
    return await reading.read_page_for_operators(
        session, caller, cursor=cursor, limit=limit, now_ms=epoch_ms()
    )
