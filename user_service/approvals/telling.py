"""Mails about what needs a second person: to those who may decide on it, and to whoever asked once it was decided."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from common.auth.principal import Principal
from common.contracts.notices import MAX_RECIPIENTS, NoticeKind
from common.four_eyes import Circle
from user_service.approvals.actions import ApprovalAction
from user_service.institutions.repository import find_institution
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID
from user_service.notices.queue import Letter, about_institution, as_moment, as_person, queue_bounded
from user_service.users.repository import find_people
from user_service.users.roles import leading_role
from user_service.users.tables import UserRow

AN_OPERATOR = "An operator of the platform"


async def tell_deciders(session: AsyncSession, approval: Approval, circle: Circle, *, now_ms: int) -> None:
    """Tell everybody but the asker who may decide on a request what would be done, and until when they may."""
    wanted_from = circle.eligible - {approval.requested_by}
    people = [
        person
        for institution_id in sorted({approval.institution_id, PLATFORM_INSTITUTION_ID})
        for person in await find_people(session, institution_id, wanted_from)
    ]
    if not people:
        return
    letter = Letter(
        NoticeKind.APPROVAL_WAITING,
        approval.institution_id,
        recipients=[person.email for person in people][:MAX_RECIPIENTS],
        facts={
            **await _about(session, approval),
            "asked_by": await _name(session, approval.institution_id, approval.requested_by),
            "until": as_moment(approval.expires_at_ms),
        },
    )
    await queue_bounded(session, letter, whom=approval.institution_id, now_ms=now_ms)


async def tell_asker(session: AsyncSession, approval: Approval, caller: Principal, *, now_ms: int) -> None:
    """Tell whoever asked how `caller` decided; who that is, unless it is an operator in a tenant's matter."""
    asker = await _find(session, approval.institution_id, approval.requested_by)
    if asker is None or asker.disabled_at_ms is not None:
        return
    is_colleague = caller.institution_id == approval.institution_id
    by = await _name(session, caller.institution_id, caller.subject) if is_colleague else AN_OPERATOR
    letter = Letter(
        NoticeKind.APPROVAL_DECIDED,
        approval.institution_id,
        recipients=(asker.email,),
        facts={
            **await _about(session, approval),
            "decision": approval.stored_state.value,
            "decided_by": by,
        },
    )
    await queue_bounded(session, letter, whom=asker.user_id, now_ms=now_ms)


async def _about(session: AsyncSession, approval: Approval) -> Mapping[str, str]:
    """Return what would be done, exactly as it was asked for, and about whom."""
    institution = await find_institution(session, approval.institution_id)
    assert institution is not None  # noqa: S101 - the request's foreign key
    about = await _find(session, approval.institution_id, approval.subject_id)
    return {
        **about_institution(institution),
        "wanted": _WANTED[ApprovalAction(approval.action)].format(
            leading_role(approval.institution_id).value
        ),
        **approval.details,
        **({} if about is None else {"person": as_person(about)}),
        "approval_id": approval.approval_id,
    }


async def _find(session: AsyncSession, institution_id: str, user_id: str) -> UserRow | None:
    return next(iter(await find_people(session, institution_id, [user_id])), None)


async def _name(session: AsyncSession, institution_id: str, user_id: str) -> str:
    found = await _find(session, institution_id, user_id)
    return "Somebody" if found is None else as_person(found)


_WANTED = {
    ApprovalAction.ROTATE_SIGNING_KEY: "rotate the key that signs tokens",
    ApprovalAction.GRANT_ADMIN: "make somebody an {}",
}
