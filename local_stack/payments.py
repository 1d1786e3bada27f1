"""The payments that the demo sends: the last ones of a simulated stream that ends now."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile

import httpx

from ai_service.ml.simulator import simulate
from common.contracts.geoip import MAX_ADDRESSES, GeoBatch, GeoLocation
from common.contracts.transactions import Transaction
from local_stack.accounts import service_token
from local_stack.errors import StackError

CUSTOMERS = 400
DAYS_PER_PAYMENT = 1 / (1.4 * CUSTOMERS)
FRAUD_RATE = 0.06  # enough of each outcome to see in a short demo
TIMEOUT_S = 10.0


def simulated_payments(count: int, *, seed: int, now: datetime, locate: "RealLocations") -> list[Transaction]:
    """Return the last `count` payments of a simulated stream that ends `now`, in the order they happened."""
    days = max(10.0, 1.5 * count * DAYS_PER_PAYMENT)
    # a simulated day begins at midnight: people sleep at night, and hours are features
    start = (now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
    stream = simulate(
        seed=seed,
        start=start,
        customers=CUSTOMERS,
        days=days + 1,
        fraud_rate=FRAUD_RATE,
        locate=locate,
        id_prefix="demo",
    )
    until_now = takewhile(lambda simulated: simulated.transaction.event_time <= now, stream)
    return [simulated.transaction for simulated in deque(until_now, maxlen=count)]


class RealLocations:
    """Asks the stack's own GeoIP service where the simulator's addresses are, so that homes are homes there too."""

    def __init__(self, *, url: str, user_service_url: str, client_id: str, secret: str) -> None:
        self._url = url
        self._token = service_token(user_service_url, client_id=client_id, secret=secret)

    def __call__(self, addresses: Sequence[str]) -> list[GeoLocation]:
        """Return where each of `addresses` is."""
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            found: list[GeoLocation] = []
            for start in range(0, len(addresses), MAX_ADDRESSES):
                found += _look_up(client, addresses[start : start + MAX_ADDRESSES])
        return found


def _look_up(client: httpx.Client, addresses: Sequence[str]) -> list[GeoLocation]:
    response = client.post("/v1/internal/geoip/batch", json={"ip_addresses": list(addresses)})
    if response.status_code != httpx.codes.OK:
        raise StackError(f"The addresses were not located: {response.status_code} {response.text}")
    batch = GeoBatch.model_validate_json(response.content)
    return [_somewhere(lookup.location) for lookup in batch.results]


def _somewhere(location: GeoLocation) -> GeoLocation:
    """Give a country without coordinates some: the simulator groups homes by place, and a country is place enough."""
    if location.country is None or location.latitude is not None:
        return location
    return location.model_copy(update={"latitude": 0.0, "longitude": 0.0})
