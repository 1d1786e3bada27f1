"""apply_change(): another role, disabled or enabled, with everything that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.roles import Role
from common.errors import PlatformError
from user_service.api_keys.makers import keys_left_by, note_revoked, record_revoked
from user_service.api_keys.tables import ApiKeyRow
from user_service.events.recording import Action, Actor, Details, Event, record
from user_service.members import repository
from user_service.members.schemas import MemberChange
from user_service.members.telling import tell_admins, tell_member
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.users.accounts_repository import Account
from user_service.users.roles import leading_role, may_hold
from user_service.users.tables import UserRow


class LastAdminError(PlatformError):
    """Without this admin nobody could run the institution any more."""

    status_code = 409
    type = "last-admin"
    title = "This is the last admin who can log in; make another one first"


class RoleNotOfferedError(PlatformError):
    """The role is for another kind of institution: operators belong to the platform, all others do not."""

    status_code = 409
    type = "role-not-offered"
    title = "This institution does not have that role"


@dataclass(frozen=True)
class Step:
    """One thing that is done to somebody, and why it ends their sessions, if it does."""

    action: Action
    details: Details
    ends: EndReason | None = None


async def apply_change(
    session: AsyncSession, account: Account, change: MemberChange, actor: Actor, *, by: str, now_ms: int
) -> Sequence[ApiKeyRow]:
    """Change somebody, end what has to end and tell who has to know; return the keys that they leave behind.

    `by` is how mails name the `actor`. All rows are taken before the first event, and the feed comes last.
    """
    role_before = Role(account.user.role)
    steps = _steps(account.user, change, now_ms=now_ms)
    await session.flush()
    keys = await keys_left_by(session, account.user, revoke=change.revoke_api_keys, now_ms=now_ms)
    institution = account.institution.as_contract()
    for step in steps:
        event = Event(step.action, actor, "user", account.user.user_id, step.details)
        await record(session, institution, event, now_ms=now_ms)
    await record_revoked(session, institution, keys, actor, now_ms=now_ms)
    if steps or change.revoke_api_keys:
        said = [_SAID[step.action].format(**step.details) for step in steps]
        await tell_admins(session, account, said, keys, by=by, now_ms=now_ms)
    if account.user.role != role_before.value:
        await tell_member(session, account, role_before, by=by, now_ms=now_ms)
    for reason in [step.ends for step in steps if step.ends is not None]:
        await end_sessions(session, account, Ending(actor, reason), now_ms=now_ms)
    await note_revoked(session, keys)
    return keys


def refuse_role(role: Role | None, institution_id: str) -> None:
    """Raise `RoleNotOfferedError` for a role that this institution does not have."""
    if role is not None and not may_hold(role, institution_id=institution_id):
        raise RoleNotOfferedError


async def refuse_leaderless(session: AsyncSession, institution_id: str) -> None:
    """Raise `LastAdminError` where nobody is left who runs the institution."""
    if not await repository.count_able(session, institution_id, leading_role(institution_id)):
        raise LastAdminError


def _steps(user: UserRow, change: MemberChange, *, now_ms: int) -> list[Step]:
    """Change `user` and return what that was; nothing, where they were so before."""
    steps = []
    if change.role is not None and change.role.value != user.role:
        details = {"role": change.role.value, "role_before": user.role}
        steps.append(Step(Action.USER_ROLE_CHANGED, details, EndReason.ROLE_CHANGED))
        user.role = change.role.value
    if change.disabled is not None and change.disabled != (user.disabled_at_ms is not None):
        if change.disabled:
            steps.append(Step(Action.USER_DISABLED, {}, EndReason.DISABLED))
        else:
            steps.append(Step(Action.USER_ENABLED, {}))
        user.disabled_at_ms = now_ms if change.disabled else None
    return steps


_SAID = {
    Action.USER_ROLE_CHANGED: "given the role {role} instead of {role_before}",
    Action.USER_DISABLED: "disabled",
    Action.USER_ENABLED: "enabled again",
}
