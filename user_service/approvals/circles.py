"""Who may ask for and approve an action: read from the database at every step, so that it is who may now."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from common.contracts.institutions import InstitutionMode
from common.four_eyes import LIFETIME_MS, Circle
from user_service.approvals import repository
from user_service.approvals.actions import ADVICE, LEFT_LATELY, OPERATORS_HELP_WITH, ApprovalAction
from user_service.institutions.repository import find_institution
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID


async def find_circle(session: AsyncSession, approval: Approval, *, now_ms: int) -> Circle:
    """Return the people of an action: those who run the institution.

    A live institution with one admin has no second person of its own. There an operator of the platform is the
    second one, so that it can get another admin at all.
    """
    institution = await find_institution(session, approval.institution_id)
    assert institution is not None  # noqa: S101 - the request's foreign key
    action = ApprovalAction(approval.action)
    is_sandbox = institution.mode == InstitutionMode.SANDBOX.value
    people = await repository.leading_people(session, approval.institution_id)
    if action in OPERATORS_HELP_WITH and await repository.has_no_second_person(
        session, approval.institution_id
    ):
        people |= await repository.leading_people(session, PLATFORM_INSTITUTION_ID)
    left = await repository.led_since(session, approval.institution_id, now_ms - LIFETIME_MS) - people
    advice = LEFT_LATELY if is_sandbox and left else ADVICE[action]
    return Circle(people, is_sandbox=is_sandbox, advice=advice, left_lately=left)
