"""The route of notices: other services ask for mails to certain people."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from alert_service.notices.repository import NoticeConflictError
from alert_service.notices.senders import NotItsNoticeError
from alert_service.notices.service import NoticeInbox
from common.auth.bearer import require_service
from common.auth.principal import Principal
from common.contracts.notices import NoticeBatch, NoticesAccepted
from common.contracts.tokens import Scope
from common.errors import OverloadedError
from common.problems import refusals
from common.strict_json import model_route

internal = APIRouter(prefix="/v1/internal", route_class=model_route(NoticeBatch), tags=["internal"])
CanNotify = Annotated[Principal, Depends(require_service(Scope.NOTICES_WRITE))]


async def inbox(request: Request) -> NoticeInbox:
    """Return where notices are accepted."""
    found: NoticeInbox = request.state.notices
    return found


@internal.post(
    "/notices",
    status_code=202,
    responses=refusals(NotItsNoticeError, NoticeConflictError, OverloadedError),
)
async def send_notices(
    batch: NoticeBatch, caller: CanNotify, inbox: Annotated[NoticeInbox, Depends(inbox)]
) -> NoticesAccepted:
    """Accept notices; the answer comes when all of them are durable. Only services may call this.

    Warnings about quotas are taken from ai_service alone, and without recipients; all others from user_service alone.
    Each becomes a mail of its own, which is sent until it is delivered, refused for good, or of no use any more.
    """
    return await inbox.accept(batch, sender=caller.subject)
