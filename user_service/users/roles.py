"""Which roles an institution has (pure); what each may do is in `common.contracts.roles`."""

from common.contracts.roles import Role
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID


def leading_role(institution_id: str) -> Role:
    """Return the role without which nobody could run this institution."""
    return Role.OPERATOR if institution_id == PLATFORM_INSTITUTION_ID else Role.ADMIN


def may_hold(role: Role, *, institution_id: str) -> bool:
    """Say whether this institution has that role: the platform has operators and nobody else, all others have none."""
    return (role is Role.OPERATOR) == (institution_id == PLATFORM_INSTITUTION_ID)
