"""Who runs an institution, before and after a change (pure)."""

from user_service.members.schemas import Member, MemberChange, MemberState
from user_service.users.roles import Role


def makes_leader(before: Member, change: MemberChange, leading: Role) -> bool:
    """Say whether somebody who does not run the institution does so afterwards: promoted, or let in again."""
    is_disabled = before.state is MemberState.DISABLED
    will_be_disabled = is_disabled if change.disabled is None else change.disabled
    leads_before = before.role is leading and not is_disabled
    leads_after = (change.role or before.role) is leading and not will_be_disabled
    return leads_after and not leads_before
