"""Routes of operators for the keys that sign tokens."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.four_eyes import NotEligibleError, SecondPersonNeededError
from common.paging import Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.approvals.schemas import ApprovalView
from user_service.approvals.service import ApprovalPendingError
from user_service.signing_keys.schemas import SigningKeyPage
from user_service.signing_keys.service import SigningKeys
from user_service.signing_keys.store import RotationUnderWayError

router = APIRouter(prefix="/v1/signing-keys", route_class=StrictRoute, tags=["platform"])
CanSee = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_READ))]
CanOperate = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_WRITE))]


async def signing_keys(request: Request) -> SigningKeys:
    """Return what shows the keys."""
    found: SigningKeys = request.state.signing_keys
    return found


SigningKeysDep = Annotated[SigningKeys, Depends(signing_keys)]


@router.get("")
async def list_signing_keys(
    _caller: CanSee, session: SessionDep, keys: SigningKeysDep, limit: Limit = 50, cursor: Cursor = None
) -> SigningKeyPage:
    """Return the keys that sign and have signed tokens, newest first, a page at a time."""
    return await keys.page(session, cursor=cursor, limit=limit, now_ms=epoch_ms())


@router.post(
    "/rotations",
    status_code=202,
    responses=refusals(
        NotEligibleError, SecondPersonNeededError, ApprovalPendingError, RotationUnderWayError
    ),
)
async def ask_for_rotation(caller: CanOperate, session: SessionDep, keys: SigningKeysDep) -> ApprovalView:
    """Ask for a new signing key. It is made when another operator approves it under `/v1/approvals`.

    It signs three minutes later, when every service knows it; the old one verifies tokens for another hour.
    """
    return await keys.ask_for_rotation(session, caller, now_ms=epoch_ms())
