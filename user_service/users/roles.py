"""What each role may do (pure)."""

from collections.abc import Mapping
from enum import StrEnum

from common.contracts.tokens import Scope


class Role(StrEnum):
    """What a user is to the institution."""

    ADMIN = "admin"
    BUILDER = "builder"
    ANALYST = "analyst"
    VIEWER = "viewer"
    OPERATOR = "operator"  # of the platform: belongs to no tenant, and sees nothing of any


SCOPES_BY_ROLE: Mapping[Role, tuple[Scope, ...]] = {
    # runs the institution
    Role.ADMIN: (
        Scope.SCORE_WRITE,
        Scope.DECISIONS_READ,
        Scope.ALERTS_READ,
        Scope.AUDIT_READ,
        Scope.PROFILE_WRITE,
        Scope.USAGE_READ,
        Scope.USERS_READ,
        Scope.USERS_WRITE,
        Scope.API_KEYS_READ,
        Scope.API_KEYS_WRITE,
        Scope.INSTITUTION_WRITE,
    ),
    # builds rules and models, and tries them on transactions
    Role.BUILDER: (
        Scope.SCORE_WRITE,
        Scope.DECISIONS_READ,
        Scope.ALERTS_READ,
        Scope.PROFILE_WRITE,
        Scope.USAGE_READ,
    ),
    # works through alerts, and looks up how a decision came about
    Role.ANALYST: (Scope.DECISIONS_READ, Scope.ALERTS_READ, Scope.AUDIT_READ, Scope.PROFILE_WRITE),
    # looks on
    Role.VIEWER: (Scope.DECISIONS_READ, Scope.ALERTS_READ, Scope.PROFILE_WRITE),
    # runs the platform: institutions, tiers, signing keys, other operators
    Role.OPERATOR: (
        Scope.PLATFORM_READ,
        Scope.PLATFORM_WRITE,
        Scope.USERS_READ,
        Scope.USERS_WRITE,
        Scope.PROFILE_WRITE,
    ),
}

PLATFORM_INSTITUTION_ID = "platform"
"""The institution of those who run the platform, which is nobody's tenant."""


def leading_role(institution_id: str) -> Role:
    """Return the role without which nobody could run this institution."""
    return Role.OPERATOR if institution_id == PLATFORM_INSTITUTION_ID else Role.ADMIN


def may_hold(role: Role, *, institution_id: str) -> bool:
    """Say whether this institution has that role: the platform has operators and nobody else, all others have none."""
    return (role is Role.OPERATOR) == (institution_id == PLATFORM_INSTITUTION_ID)
