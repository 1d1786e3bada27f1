"""Asking for what needs a second person, and deciding on it. The rules are in `common.four_eyes`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval, Decision
from common.auth.principal import Principal
from common.errors import PlatformError
from common.four_eyes import (
    LIFETIME_MS,
    ApprovalClosedError,
    ApprovalState,
    check_approving,
    check_asking,
    check_refusing,
    check_withdrawing,
)
from common.ids import new_id
from user_service.approvals import repository
from user_service.approvals.actions import ApprovalAction, Executor, Wanted
from user_service.approvals.circles import find_circle
from user_service.approvals.reading import find_for, seen_by
from user_service.approvals.schemas import ApprovalView, view_of
from user_service.approvals.telling import tell_asker, tell_deciders
from user_service.events.recording import Action, Event, actor_of, record
from user_service.institutions.repository import find_institution, hold_institution
from user_service.users.repository import hold_user


class ApprovalPendingError(PlatformError):
    """Exactly this was asked for already, and nobody has decided yet."""

    status_code = 409
    type = "approval-pending"
    title = "This was asked for already and waits for a second person"


@dataclass(frozen=True)
class Asked:
    """A request that was made; `result_id` is what came of it where it was approved at once."""

    approval: ApprovalView
    result_id: str | None


@dataclass(frozen=True)
class FourEyes:
    """Requests and decisions; an approval does what was asked for in its own transaction."""

    executors: Mapping[ApprovalAction, Executor]

    async def ask(self, session: AsyncSession, caller: Principal, wanted: Wanted, *, now_ms: int) -> Asked:
        """Write down what `caller` asks for; the only admin of a sandbox has it done at once.

        Raises `NotEligibleError`, `SecondPersonNeededError` and `ApprovalPendingError`.
        """
        approval = _new(caller, wanted, now_ms=now_ms)
        await _hold(session, approval)
        circle = await find_circle(session, approval, now_ms=now_ms)
        at_once = check_asking(caller.subject, circle)
        if await repository.is_waiting(session, approval):
            raise ApprovalPendingError
        await repository.add(session, approval)
        await _record(session, approval, caller, Action.APPROVAL_ASKED, now_ms=now_ms)
        result_id = None
        if at_once:
            approval, result_id = await self._do(session, caller, approval, alone=True, now_ms=now_ms)
        else:
            await tell_deciders(session, approval, circle, now_ms=now_ms)
        return Asked(view_of(approval, may_approve=False, now_ms=now_ms), result_id)

    async def approve(
        self, session: AsyncSession, caller: Principal, approval_id: str, *, now_ms: int
    ) -> ApprovalView:
        """Approve a request and do what it says.

        Raises `NotFoundError`, what `check_approving` raises, and what doing it raises: then it stays open.
        """
        approval = await _held(session, caller, approval_id, now_ms=now_ms)
        circle = await find_circle(session, approval, now_ms=now_ms)
        alone = check_approving(approval.question, caller.subject, circle, now_ms=now_ms)
        approval, _ = await self._do(session, caller, approval, alone=alone, now_ms=now_ms)
        return await seen_by(session, caller, approval, now_ms=now_ms)

    async def refuse(
        self, session: AsyncSession, caller: Principal, approval_id: str, *, now_ms: int
    ) -> ApprovalView:
        """Refuse a request; raises `NotFoundError` and what `check_refusing` raises."""
        approval = await _held(session, caller, approval_id, now_ms=now_ms)
        circle = await find_circle(session, approval, now_ms=now_ms)
        check_refusing(approval.question, caller.subject, circle, now_ms=now_ms)
        return await _turn_down(session, caller, approval, ApprovalState.REFUSED, now_ms=now_ms)

    async def withdraw(
        self, session: AsyncSession, caller: Principal, approval_id: str, *, now_ms: int
    ) -> ApprovalView:
        """Take back what the caller asked for; raises `NotFoundError` and what `check_withdrawing` raises."""
        approval = await _held(session, caller, approval_id, now_ms=now_ms)
        check_withdrawing(approval.question, caller.subject, now_ms=now_ms)
        return await _turn_down(session, caller, approval, ApprovalState.WITHDRAWN, now_ms=now_ms)

    async def _do(
        self, session: AsyncSession, caller: Principal, approval: Approval, *, alone: bool, now_ms: int
    ) -> tuple[Approval, str]:
        """Close the request first, which only one can, then do what it says."""
        decision = Decision(ApprovalState.APPROVED, caller.subject, now_ms, self_approved=alone)
        closed = await _close(session, approval, decision)
        await _record(session, closed, caller, Action.APPROVAL_GIVEN, now_ms=now_ms, self_approved=alone)
        if not alone:
            await tell_asker(session, closed, caller, now_ms=now_ms)
        return closed, await self.executors[ApprovalAction(approval.action)](session, closed, now_ms)


async def _held(session: AsyncSession, caller: Principal, approval_id: str, *, now_ms: int) -> Approval:
    """Return a request as it is once nobody else changes it or its institution's people; raises `NotFoundError`."""
    await _hold(session, await find_for(session, caller, approval_id, now_ms=now_ms))
    return await find_for(session, caller, approval_id, now_ms=now_ms)


async def _hold(session: AsyncSession, approval: Approval) -> None:
    """Hold what every change of people holds, and whom it is about, before an event takes its number.

    Whoever takes them crosswise waits for each other.
    """
    await hold_institution(session, approval.institution_id)
    await hold_user(session, approval.subject_id, institution_id=approval.institution_id)


async def _turn_down(
    session: AsyncSession, caller: Principal, approval: Approval, state: ApprovalState, *, now_ms: int
) -> ApprovalView:
    closed = await _close(session, approval, Decision(state, caller.subject, now_ms))
    withdrawn = state is ApprovalState.WITHDRAWN
    await _record(session, closed, caller, Action.APPROVAL_REFUSED, now_ms=now_ms, withdrawn=withdrawn)
    if not withdrawn:
        await tell_asker(session, closed, caller, now_ms=now_ms)
    return await seen_by(session, caller, closed, now_ms=now_ms)


def _new(caller: Principal, wanted: Wanted, *, now_ms: int) -> Approval:
    approval_id = new_id("apr")
    return Approval(
        approval_id=approval_id,
        institution_id=caller.institution_id,
        action=wanted.action.value,
        subject_id=wanted.subject_id or approval_id,
        details=wanted.details,
        requested_by=caller.subject,
        requested_at_ms=now_ms,
        expires_at_ms=now_ms + LIFETIME_MS,
    )


async def _close(session: AsyncSession, approval: Approval, decision: Decision) -> Approval:
    if not await repository.close(session, approval, decision):
        raise ApprovalClosedError
    return replace(
        approval,
        stored_state=decision.state,
        decided_by=decision.decided_by,
        decided_at_ms=decision.decided_at_ms,
        self_approved=decision.self_approved,
    )


async def _record(
    session: AsyncSession,
    approval: Approval,
    caller: Principal,
    action: Action,
    *,
    now_ms: int,
    **facts: bool,
) -> None:
    institution = await find_institution(session, approval.institution_id)
    assert institution is not None  # noqa: S101 - the request's foreign key
    event = Event(
        action,
        actor_of(caller),
        "approval",
        approval.approval_id,
        {
            "action": approval.action,
            "subject_id": approval.subject_id,
            "requested_by": approval.requested_by,
            **facts,
        },
    )
    await record(session, institution.as_contract(), event, now_ms=now_ms)
