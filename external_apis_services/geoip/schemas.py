"""What the mock provider's control route takes and answers."""

from pydantic import Field

from common.contracts.fields import Contract

MAX_LATENCY_MS = 60_000


class MockFaults(Contract):
    """How the mock provider misbehaves; every answer of the service waits and fails alike, batches count once."""

    latency_ms: int = Field(0, ge=0, le=MAX_LATENCY_MS, description="added to every answer")
    error_rate: float = Field(
        0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="share of calls answered 503, evenly spread: 0.25 is every 4th",
    )
    outage: bool = Field(False, description="answer every call with 503")
