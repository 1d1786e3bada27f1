"""The routes of alerts: ai_service raises them, people read those of their institution."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from alert_service.alerts.repository import AlertFilter
from alert_service.alerts.schemas import Alert, AlertPage, MailState
from alert_service.alerts.service import AlertHistory, AlertInbox
from common.auth.bearer import require_scope, require_service
from common.auth.principal import Principal
from common.contracts.alerts import AlertBatch, AlertsAccepted
from common.contracts.decisions import Outcome
from common.contracts.fields import Identifier, Timestamp
from common.contracts.tokens import Scope
from common.errors import NotFoundError, OverloadedError
from common.internal_door import InternalCall
from common.paging import Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute, model_route

internal = APIRouter(prefix="/v1/internal", route_class=model_route(AlertBatch), tags=["internal"])
router = APIRouter(prefix="/v1/alerts", route_class=StrictRoute, tags=["alerts"])

CanRaise = Annotated[Principal, Depends(require_service(Scope.ALERTS_WRITE))]
CanRead = Annotated[Principal, Depends(require_scope(Scope.ALERTS_READ))]


async def inbox(request: Request) -> AlertInbox:
    """Return where alerts are accepted."""
    found: AlertInbox = request.state.inbox
    return found


async def history(request: Request) -> AlertHistory:
    """Return the look-up of alerts."""
    found: AlertHistory = request.state.history
    return found


@internal.post(
    "/alerts",
    status_code=202,
    responses=refusals(OverloadedError),
)
async def raise_alerts(
    batch: AlertBatch, _caller: CanRaise, inbox: Annotated[AlertInbox, Depends(inbox)]
) -> AlertsAccepted:
    """Accept alerts; the answer comes when all of them are durable. Only services may call this."""
    return await inbox.accept(batch)


CALLS = {
    "/v1/internal/alerts": InternalCall(
        AlertBatch, Scope.ALERTS_WRITE, lambda state, batch, _caller: state["inbox"].accept(batch)
    )
}


async def wanted(
    outcome: Outcome | None = None,
    policy_outcome: Outcome | None = None,
    mail: Annotated[MailState | None, Query(description="what became of the mail")] = None,
    since: Annotated[Timestamp | None, Query(description="accepted at or after this time")] = None,
    until: Annotated[Timestamp | None, Query(description="accepted before this time")] = None,
) -> AlertFilter:
    """Join the filters of a list."""
    return AlertFilter(
        outcome=outcome,
        policy_outcome=policy_outcome,
        mail_state=mail,
        since_ms=None if since is None else int(since.timestamp() * 1000),
        until_ms=None if until is None else int(until.timestamp() * 1000),
    )


@router.get("")
async def list_alerts(
    caller: CanRead,
    history: Annotated[AlertHistory, Depends(history)],
    wanted: Annotated[AlertFilter, Depends(wanted)],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AlertPage:
    """Return the alerts of the caller's institution, newest first, a page at a time.

    Each shows what became of its mail: `pending` means that an admin still has to get it, `delivered` that at
    least one got it and none is waited for, `dead_letter` that every address refused it for good.
    """
    return await history.page(caller.institution_id, wanted, cursor=cursor, limit=limit)


@router.get("/{alert_id}", responses=refusals(NotFoundError))
async def get_alert(
    alert_id: Annotated[Identifier, Path()],
    caller: CanRead,
    history: Annotated[AlertHistory, Depends(history)],
) -> Alert:
    """Return one alert of the caller's institution and what became of its mail."""
    return await history.alert(caller.institution_id, alert_id)
