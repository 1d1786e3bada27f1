"""Random streams of transactions for the tests of this folder: late ones, repeated ones, long silences."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import numpy as np

from ai_service.features.accepted import AcceptedTransaction
from common.contracts.geoip import GeoLocation, GeoStatus
from tests.factories import LIVE, SANDBOX, make_accepted

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOWHERE = GeoLocation(status=GeoStatus.UNKNOWN)
PLACES = (
    NOWHERE,
    GeoLocation(status=GeoStatus.FOUND, country="DE", latitude=52.5200005, longitude=13.405),
    GeoLocation(status=GeoStatus.FOUND, country="US", latitude=-40.7127285, longitude=-74.0059415),
)


@dataclass(frozen=True)
class Pace:
    """How a stream goes: seconds between two receipts, how late the late ones are, how many things there are."""

    step_s: float
    late_s: float = 3600.0
    late_share: float = 0.2
    things: int = 5


def stream(seed: int, count: int, pace: Pace) -> Iterator[tuple[AcceptedTransaction, GeoLocation]]:
    """Yield transactions in the order of receipt."""
    random = np.random.default_rng(seed)
    now = START
    for number in range(count):
        now += timedelta(seconds=float(random.exponential(pace.step_s)))
        is_late = random.random() < pace.late_share
        late = timedelta(microseconds=int(random.exponential(pace.late_s) * 1e6)) if is_late else timedelta()

        def one_of(name: str, missing: float = 0.0) -> str | None:
            return None if random.random() < missing else f"{name}-{random.integers(pace.things)}"

        is_repeated = number > 0 and random.random() < 0.05
        card = one_of("card", 0.3)
        accepted = make_accepted(
            institution=LIVE if random.random() < 0.1 else SANDBOX,
            now=now,
            transaction_id=f"tx-{int(random.integers(number)) if is_repeated else number}",
            event_time=(now - late).isoformat(),
            amount=f"{random.integers(10_000)}.{random.integers(100):02d}",
            customer_id=one_of("customer"),
            device_id=one_of("device", 0.2),
            merchant_id=one_of("merchant", 0.2),
            counterparty_id=one_of("counterparty", 0.5),
            ip_address=None
            if random.random() < 0.3
            else str(IPv4Address(0x0A000000 + int(random.integers(pace.things)))),
            payment_method={"card_token": card} if card else None,
        )
        yield accepted, PLACES[int(random.integers(len(PLACES)))]
