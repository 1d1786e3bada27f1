from pathlib import Path

import pytest

from common.contracts.access import Allowance, OverQuota, Tier
from user_service.institutions.tiers import LIMITS_BY_TIER, allowance_of

LIMITS_PAGE = (Path(__file__).parents[3] / "docs" / "limits.md").read_text()


@pytest.mark.parametrize("tier", Tier)
class TestTiers:
    def test_say_what_an_institution_may_ask_for(self, tier: Tier) -> None:
        limits = LIMITS_BY_TIER[tier]

        assert allowance_of(tier, OverQuota.BLOCK) == Allowance(
            tier=tier,
            decisions_per_month=limits.decisions_per_month,
            over_quota=OverQuota.BLOCK,
            requests_per_second=limits.requests_per_second,
            caller_requests_per_second=limits.caller_requests_per_second,
        )

    def test_are_written_down(self, tier: Tier) -> None:
        limits = LIMITS_BY_TIER[tier]
        decisions = "unbounded" if limits.decisions_per_month is None else f"{limits.decisions_per_month:,}"

        row = f"| `{tier.value}` | {decisions} | {limits.requests_per_second:,} | {limits.caller_requests_per_second:,} |"

        assert row in LIMITS_PAGE
