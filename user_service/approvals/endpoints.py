"""Routes for what needs a second person."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.four_eyes import ApprovalState
from common.strict_json import StrictRoute
from user_service.approvals import reading
from user_service.approvals.schemas import ApprovalPage, ApprovalView
from user_service.approvals.service import FourEyes

MAX_PAGE = 200
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token"},
    403: {"description": "The access token does not allow this"},
    422: {"description": "A value is not taken here"},
    503: {"description": "The database is away; see Retry-After"},
}
_ONE: dict[int | str, dict[str, Any]] = {
    **_REFUSALS,
    404: {"description": "There is no such request for the caller"},
}
_DECIDING: dict[int | str, dict[str, Any]] = {
    **_ONE,
    403: {"description": "The caller asked for this themselves, or may not decide on it"},
    409: {"description": "It is closed or has expired, nobody may approve it, or it cannot be done now"},
}
_APPROVING: dict[int | str, dict[str, Any]] = {
    **_DECIDING,
    429: {"description": "What was asked for mails an invitation, and too many were mailed; see Retry-After"},
}
router = APIRouter(prefix="/v1/approvals", route_class=StrictRoute, tags=["approvals"])
platform = APIRouter(prefix="/v1/platform/approvals", route_class=StrictRoute, tags=["platform"])
CanSee = Annotated[Principal, Depends(require_scope(Scope.USERS_READ))]
CanDecide = Annotated[Principal, Depends(require_scope(Scope.USERS_WRITE))]
CanOperate = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_READ))]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=64, description="next_cursor of the page before")]


async def four_eyes(request: Request) -> FourEyes:
    """Return where requests are made and decided on."""
    found: FourEyes = request.state.four_eyes
    return found


FourEyesDep = Annotated[FourEyes, Depends(four_eyes)]


@router.get("", responses=_REFUSALS)
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


@router.get("/{approval_id}", responses=_ONE)
async def read_approval(approval_id: Identifier, caller: CanSee, session: SessionDep) -> ApprovalView:
    """Return one request."""
    return await reading.read_one(session, caller, approval_id, now_ms=epoch_ms())


@router.post("/{approval_id}/approve", responses=_APPROVING)
async def approve(
    approval_id: Identifier, caller: CanDecide, session: SessionDep, four_eyes: FourEyesDep
) -> ApprovalView:
    """Approve what another person asked for: it is done exactly as it was asked, before this is answered."""
    return await four_eyes.approve(session, caller, approval_id, now_ms=epoch_ms())


@router.post("/{approval_id}/refuse", responses=_DECIDING)
async def refuse(
    approval_id: Identifier, caller: CanDecide, session: SessionDep, four_eyes: FourEyesDep
) -> ApprovalView:
    """Refuse what another person asked for."""
    return await four_eyes.refuse(session, caller, approval_id, now_ms=epoch_ms())


@router.post("/{approval_id}/withdraw", responses=_DECIDING)
async def withdraw(
    approval_id: Identifier, caller: CanDecide, session: SessionDep, four_eyes: FourEyesDep
) -> ApprovalView:
    """Take back what the caller asked for."""
    return await four_eyes.withdraw(session, caller, approval_id, now_ms=epoch_ms())


@platform.get("", responses=_REFUSALS)
async def list_for_operators(
    caller: CanOperate, session: SessionDep, limit: Limit = 50, cursor: Cursor = None
) -> ApprovalPage:
    """Return open requests of institutions that have no second admin: an operator is the second person there.

    They are decided on under `/v1/approvals/{approval_id}`.
    """
    return await reading.read_page_for_operators(
        session, caller, cursor=cursor, limit=limit, now_ms=epoch_ms()
    )
