"""GET /v1/usage: what an institution has used of its quota."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from ai_service.usage.schemas import UsageReport
from ai_service.usage.service import UsageMeter
from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import utc_now
from common.contracts.tokens import Scope
from common.strict_json import StrictRoute

router = APIRouter(prefix="/v1", route_class=StrictRoute)
CanReadUsage = Annotated[Principal, Depends(require_scope(Scope.USAGE_READ))]


async def usage_meter(request: Request) -> UsageMeter:
    """Return what counts the decisions of this service."""
    found: UsageMeter = request.state.usage
    return found


UsageDep = Annotated[UsageMeter, Depends(usage_meter)]


@router.get("/usage", tags=["usage"])
async def read_usage(caller: CanReadUsage, usage: UsageDep) -> UsageReport:
    """Return what the caller's institution has decided this month, and what it may."""
    return usage.report(caller.institution_id, now=utc_now())
