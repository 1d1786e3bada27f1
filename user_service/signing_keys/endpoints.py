"""Routes of operators for the keys that sign tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.approvals.schemas import ApprovalView
from user_service.signing_keys.schemas import SigningKeyList
from user_service.signing_keys.service import SigningKeys

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token"},
    403: {"description": "Not an operator's access token"},
    503: {"description": "The database is away; see Retry-After"},
}
_ROTATION_REFUSALS: dict[int | str, dict[str, Any]] = {
    **_REFUSALS,
    409: {"description": "There is no second operator, or a rotation is under way or was asked for already"},
}
router = APIRouter(prefix="/v1/signing-keys", route_class=StrictRoute, tags=["platform"])
CanSee = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_READ))]
CanOperate = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_WRITE))]


async def signing_keys(request: Request) -> SigningKeys:
    """Return what shows the keys."""
    found: SigningKeys = request.state.signing_keys
    return found


SigningKeysDep = Annotated[SigningKeys, Depends(signing_keys)]


@router.get("", responses=_REFUSALS)
async def list_signing_keys(_caller: CanSee, session: SessionDep, keys: SigningKeysDep) -> SigningKeyList:
    """Return the keys that sign and have signed tokens, newest first."""
    return await keys.list(session, now_ms=epoch_ms())


@router.post("/rotations", status_code=202, responses=_ROTATION_REFUSALS)
async def ask_for_rotation(caller: CanOperate, session: SessionDep, keys: SigningKeysDep) -> ApprovalView:
    """Ask for a new signing key. It is made when another operator approves it under `/v1/approvals`.

    It signs three minutes later, when every service knows it; the old one verifies tokens for another hour.
    """
    return await keys.ask_for_rotation(session, caller, now_ms=epoch_ms())
