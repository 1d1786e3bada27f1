"""What needs a second person here, and what each action does once it is approved."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from user_service.events.recording import Actor, Approved


class ApprovalAction(StrEnum):
    """What has to be asked for."""

    ROTATE_SIGNING_KEY = "signing_key.rotate"
    GRANT_ADMIN = "user.grant_admin"  # in the platform's institution: making somebody an operator


@dataclass(frozen=True)
class Wanted:
    """What somebody asks for: `details` hold everything that doing it takes.

    `subject_id` is what it is about; empty, where that has no id yet: the request's own id.
    """

    action: ApprovalAction
    details: Mapping[str, str]
    subject_id: str = ""


def actor_for(approval: Approval) -> Actor:
    """Return who does what was approved: whoever asked, with the consent of whoever decided."""
    assert approval.decided_by is not None  # noqa: S101 - it is done once it is closed
    approved = Approved(approval.approval_id, approval.decided_by)
    return Actor("user", approval.requested_by, approved)


Executor = Callable[[AsyncSession, Approval, int], Awaitable[str]]
"""Does what was approved, in the transaction of the approval, at a time in ms; returns the id of what came of it."""

OPERATORS_HELP_WITH = frozenset({ApprovalAction.GRANT_ADMIN})
"""Of which an operator is the second person where an institution has none of its own."""

ADVICE: Mapping[ApprovalAction, str] = {
    ApprovalAction.ROTATE_SIGNING_KEY: (
        "There is no second operator. On the machine: python -m user_service.rotate_signing_key"
    ),
    ApprovalAction.GRANT_ADMIN: (
        "Nobody else may approve it. On the machine: python -m user_service.operators (see its --help)"
    ),
}

LEFT_LATELY = "Somebody who could have approved it was lowered or disabled less than 72 hours ago. Ask again after that."
