"""Who may still get in: what every service polls from user_service, and what it reports back."""

from enum import StrEnum

from pydantic import Field

from common.contracts.fields import Contract, Identifier
from common.contracts.institutions import Institution
from common.contracts.tokens import Scope

MAX_CHANGES = 1000
MAX_MARK = 32
ANNOUNCEMENTS = "assay:access"
"""The channel on which user_service says that something changed; what that is, the feed says."""


class Tier(StrEnum):
    """What an institution is given: see `user_service.institutions.tiers`."""

    STARTER = "starter"
    GROWTH = "growth"
    ENTERPRISE = "enterprise"


class OverQuota(StrEnum):
    """What happens to decisions beyond the month's quota."""

    ALLOW_AND_WARN = "allow_and_warn"
    BLOCK = "block"


class Allowance(Contract):
    """How much an institution may ask for; None has no bound."""

    tier: Tier
    decisions_per_month: int | None = Field(ge=1)
    over_quota: OverQuota
    requests_per_second: int = Field(ge=1, description="of the whole institution")
    caller_requests_per_second: int = Field(ge=1, description="of each of its API keys and users")


class InstitutionAccess(Contract):
    """An institution as it is now. A suspended one is let in nowhere."""

    institution: Institution
    suspended: bool
    allowance: Allowance


class ApiKeyAccess(Contract):
    """An API key as it is now. `digest` is HMAC-SHA256 of the whole key under the feed's `hash_key`, in hex."""

    key_id: Identifier
    institution_id: Identifier
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...]
    expires_at: int | None = Field(description="seconds since 1970")
    revoked: bool


class EndedSession(Contract):
    """A session whose access tokens are refused, until the last of them has expired (seconds since 1970)."""

    session_id: Identifier
    until: int


class AccessFeed(Contract):
    """What changed after version `after`; with `more`, the rest is asked for at once.

    Versions are gap-free and in the order of the commits; each has a `mark` of its own, made at random with the change.
    `after` is the version that was asked for, or 0 where user_service does not know that version by that mark (its
    database was restored): then this is the beginning of everything, and what the reader knew is void. `hash_key`
    (base64) never changes while a feed is read.
    """

    after: int = Field(ge=0)
    version: int = Field(ge=0)
    mark: str = Field(max_length=MAX_MARK, description="the mark of `version`; empty before the first change")
    more: bool
    hash_key: str
    institutions: tuple[InstitutionAccess, ...]
    api_keys: tuple[ApiKeyAccess, ...]
    ended_sessions: tuple[EndedSession, ...]


class KeyUse(Contract):
    """When a key was last used (milliseconds since 1970)."""

    key_id: Identifier
    used_at_ms: int = Field(ge=0)


class KeyUses(Contract):
    """What a service tells user_service about the use of keys, once in a while."""

    uses: tuple[KeyUse, ...] = Field(max_length=MAX_CHANGES)
