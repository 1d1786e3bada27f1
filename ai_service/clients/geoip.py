"""Asks external_apis_services where an address is; remembers what it was told, one look-up per address at a time."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog
from prometheus_client import Counter

from common.auth.service_tokens import ServiceTokens
from common.cache.memory import Memory
from common.cache.metrics import ITEMS
from common.circuit import Circuit
from common.contracts.geoip import GeoLocation, GeoLookup, GeoStatus
from common.delivery import Courier
from common.errors import PlatformError
from common.logging import request_id
from common.metrics import follow

UNAVAILABLE = GeoLocation(status=GeoStatus.UNAVAILABLE)
LOOKUPS = Counter("assay_geoip_lookups_total", "GeoIP look-ups by where the answer came from.", ["answer"])
FAILED_FOR_S = 1.0
STALL_S = 0.005
"""How much too late the end of a look-up's time may be noticed before this process counts as having stood still."""
MAX_NAME_LENGTH = 200
_COUNTRY = re.compile(r"[A-Z]{2}")
_log = structlog.get_logger()
_Address = IPv4Address | IPv6Address


class GeoIpClient:
    """Locations by address; a look-up that fails or takes too long is `unavailable`.

    An address whose look-up failed is not asked for again for a second. While the service as a whole fails, nothing
    is asked but one probe every five seconds.
    """

    def __init__(
        self,
        client: Courier,
        tokens: ServiceTokens,
        *,
        timeout_s: float,
        cache_s: float,
        cache_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._clock = clock
        self._cache_s = cache_s
        self._circuit = Circuit("geoip", failing_share=0.5, clock=clock)
        self._kept: Memory[int, GeoLocation] = Memory(max_items=cache_size, clock=clock)
        self._failed: Memory[int, None] = Memory(
            max_items=cache_size, clock=clock
        )  # apart: an outage must not push locations out
        follow(ITEMS.labels("geoip"), lambda: len(self._kept))
        self._running: dict[int, asyncio.Task[GeoLocation]] = {}
        self._hits, self._misses, self._unavailable = (
            LOOKUPS.labels(answer) for answer in ("cache", "service", "unavailable")
        )

    def cached(self, address: _Address) -> GeoLocation | None:
        """Return what can be said of `address` without asking, None when `locate` has to ask."""
        key = _key(address)
        known = self._kept.get(key)
        if known is not None:
            self._hits.inc()
            return known[0]
        if self._circuit.refuses or self._failed.get(key) is not None:
            self._unavailable.inc()
            return UNAVAILABLE
        return None

    async def locate(self, address: _Address) -> GeoLocation:
        """Return where `address` is; never raises."""
        known = self.cached(address)
        if known is not None:
            return known
        key = _key(address)
        task = self._running.get(key)
        if task is None:
            try:
                headers = {**self._tokens.header(), "X-Request-ID": request_id()}
            except PlatformError:  # nothing was asked, so nothing is known about the service
                self._unavailable.inc()
                return UNAVAILABLE
            self._circuit.admits()  # takes the probe, when one is due
            task = self._running[key] = asyncio.create_task(self._look_up(address, headers))
            task.add_done_callback(lambda _task: self._running.pop(key, None))
        return await asyncio.shield(task)

    async def _look_up(self, address: _Address, headers: Mapping[str, str]) -> GeoLocation:
        began = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                status, body = await self._client.get(f"/v1/internal/geoip/{address}", headers)
            if status == HTTPStatus.UNPROCESSABLE_ENTITY:
                self._circuit.succeeded()  # it is there; it is this address that it does not read
                return self._not_found(address, "status 422")
            location = _location(address, status, body)
        except Exception as error:  # noqa: BLE001 - the boundary: a payment is scored without a place as well
            # one stall of this process fails every look-up that was under way, and says little about the service
            was_stalled = self._clock() - began > self._timeout_s + STALL_S
            self._circuit.failed(together_since=began if was_stalled else None)
            return self._not_found(address, type(error).__name__)
        self._circuit.succeeded()
        self._misses.inc()
        self._kept.put(_key(address), location, for_s=self._cache_s)
        return location

    def _not_found(self, address: _Address, error: str) -> GeoLocation:
        self._failed.put(_key(address), None, for_s=FAILED_FOR_S)
        self._unavailable.inc()
        _log.warning("geoip.unavailable", error=error)
        return UNAVAILABLE


class OddLocationError(ValueError):
    """The service answered, and the answer cannot be true."""


def _location(address: _Address, status: int, body: bytes) -> GeoLocation:
    """Read the answer for `address`; raises `ValueError` when it is not one."""
    if status != HTTPStatus.OK:
        raise OddLocationError(f"status {status}")
    answer = GeoLookup.model_validate_json(body)
    location = answer.location
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if ip_address(answer.ip_address) != (mapped or address):
        raise OddLocationError("another address")
    if location.status is GeoStatus.UNAVAILABLE:
        raise OddLocationError("nothing known for now")
    if location.country is not None and not _COUNTRY.fullmatch(location.country):
        raise OddLocationError("country")
    if any(name is not None and len(name) > MAX_NAME_LENGTH for name in (location.region, location.city)):
        raise OddLocationError("name")
    return location


def _key(address: _Address) -> int:
    """Return a number of its own for every address; hashing the address itself takes twice as long."""
    return int(address) if isinstance(address, IPv4Address) else ~int(address)
