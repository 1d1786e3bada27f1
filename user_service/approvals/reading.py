"""Which requests somebody sees: those of their institution, and for operators those that only they can approve."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from common.auth.principal import Principal
from common.cursors import from_id_cursor, to_id_cursor
from common.errors import NotFoundError
from common.four_eyes import ApprovalState, may_approve
from common.paging import cut
from user_service.approvals import repository
from user_service.approvals.circles import find_circle
from user_service.approvals.schemas import ApprovalPage, ApprovalView, view_of
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID


async def find_for(session: AsyncSession, caller: Principal, approval_id: str, *, now_ms: int) -> Approval:
    """Return a request that `caller` may see; raises `NotFoundError` for every other one."""
    approval = await repository.find(session, approval_id, institution_id=caller.institution_id)
    if approval is None and caller.institution_id == PLATFORM_INSTITUTION_ID:
        approval = await _find_for_operator(session, caller, approval_id, now_ms=now_ms)
    if approval is None:
        raise NotFoundError
    return approval


async def read_one(
    session: AsyncSession, caller: Principal, approval_id: str, *, now_ms: int
) -> ApprovalView:
    """Return one request as `caller` sees it; raises `NotFoundError`."""
    approval = await find_for(session, caller, approval_id, now_ms=now_ms)
    return await seen_by(session, caller, approval, now_ms=now_ms)


async def read_page(
    session: AsyncSession,
    caller: Principal,
    *,
    state: ApprovalState | None,
    cursor: str | None,
    limit: int,
    now_ms: int,
) -> ApprovalPage:
    """Return requests of the caller's institution; raises `CursorInvalidError`."""
    found = await repository.page(
        session,
        institution_id=caller.institution_id,
        state=state,
        before=from_id_cursor(cursor),
        limit=limit + 1,
        now_ms=now_ms,
    )
    return await _page_of(session, caller, found, limit=limit, now_ms=now_ms)


async def read_page_for_operators(
    session: AsyncSession, caller: Principal, *, cursor: str | None, limit: int, now_ms: int
) -> ApprovalPage:
    """Return open requests of tenants whose second person is an operator; raises `CursorInvalidError`."""
    keys = await repository.open_for_operators(
        session, before=from_id_cursor(cursor), limit=limit + 1, now_ms=now_ms
    )
    found = [
        approval
        for approval_id, institution_id in keys
        if (approval := await repository.find(session, approval_id, institution_id=institution_id))
    ]
    return await _page_of(session, caller, found, limit=limit, now_ms=now_ms)


async def seen_by(
    session: AsyncSession, caller: Principal, approval: Approval, *, now_ms: int
) -> ApprovalView:
    """Return `approval` as `caller` sees it."""
    circle = await find_circle(session, approval, now_ms=now_ms)
    counts = may_approve(approval.question, caller.subject, circle, now_ms=now_ms)
    return view_of(approval, may_approve=counts, now_ms=now_ms)


async def _find_for_operator(
    session: AsyncSession, caller: Principal, approval_id: str, *, now_ms: int
) -> Approval | None:
    institution_id = await repository.institution_of(session, approval_id)
    if institution_id is None:
        return None
    approval = await repository.find(session, approval_id, institution_id=institution_id)
    if (
        approval is None
        or caller.subject not in (await find_circle(session, approval, now_ms=now_ms)).eligible
    ):
        return None
    return approval


async def _page_of(
    session: AsyncSession, caller: Principal, found: Sequence[Approval], *, limit: int, now_ms: int
) -> ApprovalPage:
    shown, next_cursor = cut(found, limit, lambda approval: to_id_cursor(approval.approval_id))
    items = [await seen_by(session, caller, approval, now_ms=now_ms) for approval in shown]
    return ApprovalPage(items=items, next_cursor=next_cursor)
