"""A transaction together with what its acceptance added: whose it is, when it came, what it is worth."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from common.contracts.institutions import Institution
from common.contracts.transactions import Transaction
from common.errors import PlatformError

MAX_AHEAD_US = 300 * 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventTimeAheadError(PlatformError):
    """The event time lies further in the future than clocks may differ."""

    status_code = 422
    type = "event-time-ahead"
    title = "The event time is more than five minutes ahead of this server's clock"


class StageTimer:
    """Notes how long each stage took, in milliseconds."""

    def __init__(self) -> None:
        self._last = time.perf_counter_ns()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Note the time since the last lap under `stage`."""
        now = time.perf_counter_ns()
        self.laps[stage] = (now - self._last) // 1000 / 1000  # whole microseconds
        self._last = now


@dataclass(frozen=True)
class AcceptedTransaction:
    """What every later stage sees of a transaction.

    `amount_base_minor` is the amount in minor units of the institution's base currency; None when no rate is known.
    `event_time_us` and `received_at_us` are the two times in microseconds since 1970-01-01 UTC. `access_is_stale` when
    it was not heard for a minute whose rights have ended.
    """

    transaction: Transaction
    institution: Institution
    amount_base_minor: int | None
    received_at: datetime
    accepted_by: str
    request_id: str
    access_is_stale: bool = False
    timer: StageTimer = field(default_factory=StageTimer, compare=False)
    event_time_us: int = field(init=False, compare=False)
    received_at_us: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "event_time_us", microseconds(self.transaction.event_time))
        object.__setattr__(self, "received_at_us", microseconds(self.received_at))

    @property
    def institution_id(self) -> str:
        """Return whose transaction this is."""
        return self.institution.institution_id


def microseconds(time: datetime) -> int:
    """Return an aware time in microseconds since 1970-01-01 UTC, exactly."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def accept(
    transaction: Transaction,
    institution: Institution,
    *,
    amount_base_minor: int | None,
    now: datetime,
    accepted_by: str,
    request_id: str,
    access_is_stale: bool = False,
) -> AcceptedTransaction:
    """Return `transaction` as accepted at `now`; raises `EventTimeAheadError`."""
    accepted = AcceptedTransaction(
        transaction, institution, amount_base_minor, now, accepted_by, request_id, access_is_stale
    )
    if accepted.event_time_us - accepted.received_at_us > MAX_AHEAD_US:
        raise EventTimeAheadError
    return accepted
