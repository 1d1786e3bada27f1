"""What each role of a person may do: user_service writes it into tokens, and refusals say who may."""

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


def roles_with(scope: Scope) -> tuple[Role, ...]:
    """Return the roles that hold `scope`."""
    return tuple(role for role, scopes in SCOPES_BY_ROLE.items() if scope in scopes)
