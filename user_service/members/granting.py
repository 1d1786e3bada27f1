"""Making somebody run the institution, which needs a second person: admins of tenants, operators of the platform."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from common.auth.principal import Principal
from common.contracts.roles import Role
from user_service.approvals.actions import ApprovalAction, Wanted, actor_for
from user_service.approvals.schemas import ApprovalView
from user_service.approvals.service import FourEyes
from user_service.institutions import repository as institutions
from user_service.members.leading import makes_leader
from user_service.members.schemas import ChangedMember, Invitation, Member, MemberChange
from user_service.members.service import By, Members, by
from user_service.users.email import email_key
from user_service.users.repository import EmailTakenError, find_by_email
from user_service.users.roles import leading_role

EMAIL, FULL_NAME, USER_ID, ROLE, DISABLED = "email", "full_name", "user_id", "role", "disabled"


@dataclass(frozen=True)
class GrantAdmin:
    """What an approved request does: an invitation, or a change of somebody who is there."""

    members: Members

    async def __call__(self, session: AsyncSession, approval: Approval, now_ms: int) -> str:
        """Do it for whoever asked, exactly as they asked; returns the user's id, raises as `Members` does."""
        who = By(approval.institution_id, actor_for(approval))
        if USER_ID in approval.details:
            user_id = approval.details[USER_ID]
            change = _change_of(approval)
            await self.members.change(session, who, user_id, change, now_ms=now_ms, approved=True)
            return user_id
        invitation = Invitation.model_construct(  # as it was when it was asked for: it was checked then
            email=approval.details[EMAIL],
            full_name=approval.details[FULL_NAME],
            role=Role(approval.details[ROLE]),
        )
        return (await self.members.invite(session, who, invitation, now_ms=now_ms)).user_id


@dataclass(frozen=True)
class Granting:
    """Invitations and changes of members: what makes somebody run the institution is asked for, the rest is done."""

    members: Members
    four_eyes: FourEyes

    async def invite(
        self, session: AsyncSession, caller: Principal, invitation: Invitation, *, now_ms: int
    ) -> Member | ApprovalView:
        """Invite somebody, or return the request to do so; raises as `Members.invite` and `FourEyes.ask`."""
        if invitation.role is not leading_role(caller.institution_id):
            return await self.members.invite(session, by(caller), invitation, now_ms=now_ms)
        key = email_key(invitation.email)
        if await find_by_email(session, caller.institution_id, email_key=key) is not None:
            raise EmailTakenError
        details = {
            EMAIL: invitation.email,
            FULL_NAME: invitation.full_name,
            ROLE: invitation.role.value,
        }
        wanted = Wanted(ApprovalAction.GRANT_ADMIN, details)
        return await self._ask(session, caller, wanted, now_ms=now_ms)

    async def change(
        self,
        session: AsyncSession,
        caller: Principal,
        user_id: str,
        change: MemberChange,
        *,
        now_ms: int,
    ) -> ChangedMember | ApprovalView:
        """Change somebody, or return the request to do so; raises as `Members.change` and `FourEyes.ask`."""
        await institutions.hold_institution(session, caller.institution_id)  # nobody changes them meanwhile
        before = await self.members.read(session, by(caller), user_id)
        if user_id == caller.subject or not makes_leader(before, change, leading_role(caller.institution_id)):
            return await self.members.change(session, by(caller), user_id, change, now_ms=now_ms)
        details = {USER_ID: user_id}
        if change.role is not None:
            details[ROLE] = change.role.value
        if change.disabled is not None:
            details[DISABLED] = str(change.disabled).lower()
        wanted = Wanted(ApprovalAction.GRANT_ADMIN, details, subject_id=user_id)
        done = await self._ask(session, caller, wanted, now_ms=now_ms)
        return ChangedMember(**done.model_dump(), api_keys=()) if isinstance(done, Member) else done

    async def _ask(
        self, session: AsyncSession, caller: Principal, wanted: Wanted, *, now_ms: int
    ) -> Member | ApprovalView:
        asked = await self.four_eyes.ask(session, caller, wanted, now_ms=now_ms)
        if asked.result_id is None:
            return asked.approval
        return await self.members.read(session, by(caller), asked.result_id)


def _change_of(approval: Approval) -> MemberChange:
    given: dict[str, object] = {}
    if ROLE in approval.details:
        given[ROLE] = Role(approval.details[ROLE])
    if DISABLED in approval.details:
        given[DISABLED] = approval.details[DISABLED] == "true"
    return MemberChange.model_validate(given)
