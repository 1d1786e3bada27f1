"""Who runs an institution, before and after a change (pure)."""

from common.contracts.roles import Role
from user_service.members.schemas import Member, MemberChange, MemberState


def makes_leader(before: Member, change: MemberChange, leading: Role) -> bool:
    """Say whether somebody who does not run the institution does so afterwards: promoted, or let in again."""
    leads_before, leads_after = _leads(before, change, leading)
    return leads_after and not leads_before


def stops_leading(before: Member, change: MemberChange, leading: Role) -> bool:
    """Say whether somebody who runs the institution does not do so afterwards: lowered, or disabled."""
    leads_before, leads_after = _leads(before, change, leading)
    return leads_before and not leads_after


def _leads(before: Member, change: MemberChange, leading: Role) -> tuple[bool, bool]:
    is_disabled = before.state is MemberState.DISABLED
    will_be_disabled = is_disabled if change.disabled is None else change.disabled
    leads_before = before.role is leading and not is_disabled
    leads_after = (change.role or before.role) is leading and not will_be_disabled
    return leads_before, leads_after
