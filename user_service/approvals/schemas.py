"""A request that needs a second person, as people see it."""

from datetime import datetime

from pydantic import BaseModel, Field

from common.approvals import Approval
from common.four_eyes import ApprovalState
from user_service.approvals.actions import ApprovalAction
from user_service.times import to_time, to_time_or_none


class ApprovalView(BaseModel):
    """One request. What `details` say is done exactly so, once, when it is approved."""

    approval_id: str
    institution_id: str
    action: ApprovalAction
    subject_id: str = Field(description="what it is about, e.g. a user; its own id for somebody yet to come")
    details: dict[str, str]
    state: ApprovalState
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    self_approved: bool = Field(description="by the only admin of a sandbox institution")
    may_approve: bool = Field(description="whether an approval by the caller would count now")


class ApprovalPage(BaseModel):
    """Some requests, newest first."""

    items: list[ApprovalView]
    next_cursor: str | None


def view_of(approval: Approval, *, may_approve: bool, now_ms: int) -> ApprovalView:
    """Return `approval` as it is at `now_ms`."""
    return ApprovalView(
        approval_id=approval.approval_id,
        institution_id=approval.institution_id,
        action=ApprovalAction(approval.action),
        subject_id=approval.subject_id,
        details=dict(approval.details),
        state=approval.question.state(now_ms),
        requested_by=approval.requested_by,
        requested_at=to_time(approval.requested_at_ms),
        expires_at=to_time(approval.expires_at_ms),
        decided_by=approval.decided_by,
        decided_at=to_time_or_none(approval.decided_at_ms),
        self_approved=approval.self_approved,
        may_approve=may_approve,
    )
