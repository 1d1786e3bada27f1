"""What each tier is given (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.contracts.access import Allowance, OverQuota, Tier


@dataclass(frozen=True, slots=True)
class TierLimits:
    """Decisions in a calendar month (UTC), and requests in a second of the institution and of each of its callers."""

    decisions_per_month: int | None
    requests_per_second: int
    caller_requests_per_second: int


LIMITS_BY_TIER: Mapping[Tier, TierLimits] = {
    Tier.STARTER: TierLimits(50_000, requests_per_second=50, caller_requests_per_second=25),
    Tier.GROWTH: TierLimits(2_000_000, requests_per_second=500, caller_requests_per_second=250),
    Tier.ENTERPRISE: TierLimits(None, requests_per_second=20_000, caller_requests_per_second=20_000),
}


def allowance_of(tier: Tier, over_quota: OverQuota) -> Allowance:
    """Return what an institution of `tier` may ask for."""
    limits = LIMITS_BY_TIER[tier]
    return Allowance(
        tier=tier,
        decisions_per_month=limits.decisions_per_month,
        over_quota=over_quota,
        requests_per_second=limits.requests_per_second,
        caller_requests_per_second=limits.caller_requests_per_second,
    )
