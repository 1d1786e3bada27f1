"""What an institution is told of its use."""

from pydantic import Field

from common.contracts.access import OverQuota, Tier
from common.contracts.fields import Contract, Timestamp


class AllowedRequests(Contract):
    """Requests a second."""

    requests_per_second: int = Field(description="of the whole institution")
    caller_requests_per_second: int = Field(description="of each of its API keys and users")


class UsageReport(Contract):
    """What an institution has used of this month, and what it may use."""

    month: str = Field(description="the calendar month, UTC", examples=["2026-11"])
    decisions: int = Field(description="made in this month; repeats of a transaction_id do not count")
    quota: int | None = Field(description="decisions a month; null: no bound")
    percent: float | None = Field(description="of the quota, rounded down; null without one")
    over_quota: OverQuota = Field(description="what happens to decisions beyond the quota")
    tier: Tier
    resets_at: Timestamp = Field(description="when the next month begins")
    rate_limits: AllowedRequests
