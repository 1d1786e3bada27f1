"""Asks external_apis_services where an address is; remembers what it was told, one look-up per address at a time."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx
import structlog
from prometheus_client import Counter

from common.auth.service_tokens import ServiceTokens
from common.circuit import Circuit
from common.contracts.geoip import GeoLocation, GeoLookup, GeoStatus
from common.errors import PlatformError

UNAVAILABLE = GeoLocation(status=GeoStatus.UNAVAILABLE)
LOOKUPS = Counter("assay_geoip_lookups_total", "GeoIP look-ups by where the answer came from.", ["answer"])
FAILED_FOR_S = 1.0
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
        client: httpx.AsyncClient,
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
        self._cache_s = cache_s
        self._cache_size = cache_size
        self._clock = clock
        self._circuit = Circuit("geoip", failing_share=0.5, clock=clock)
        self._cache: OrderedDict[int, tuple[float, GeoLocation]] = OrderedDict()
        self._failed: OrderedDict[int, float] = OrderedDict()  # apart: an outage must not push locations out
        self._running: dict[int, asyncio.Task[GeoLocation]] = {}
        self._hits, self._misses, self._unavailable = (
            LOOKUPS.labels(answer) for answer in ("cache", "service", "unavailable")
        )

    def cached(self, address: _Address) -> GeoLocation | None:
        """Return what can be said of `address` without asking, None when `locate` has to ask."""
        key = _key(address)
        known = self._cache.get(key)
        if known is not None and known[0] > self._clock():
            self._hits.inc()
            return known[1]
        if self._circuit.refuses or self._failed.get(key, float("-inf")) > self._clock():
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
                headers = self._tokens.header()
            except PlatformError:  # nothing was asked, so nothing is known about the service
                self._unavailable.inc()
                return UNAVAILABLE
            self._circuit.admits()  # takes the probe, when one is due
            task = self._running[key] = asyncio.create_task(self._look_up(address, headers))
            task.add_done_callback(lambda _task: self._running.pop(key, None))
        return await asyncio.shield(task)

    async def _look_up(self, address: _Address, headers: Mapping[str, str]) -> GeoLocation:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.get(f"/v1/internal/geoip/{address}", headers=headers)
            if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
                self._circuit.succeeded()  # it is there; it is this address that it does not read
                return self._not_found(address, "status 422")
            response.raise_for_status()
            location = _location(address, response.content)
        except Exception as error:  # noqa: BLE001 - the boundary: a payment is scored without a place as well
            self._circuit.failed()
            return self._not_found(address, type(error).__name__)
        self._circuit.succeeded()
        self._misses.inc()
        self._remember(address, location)
        return location

    def _remember(self, address: _Address, location: GeoLocation) -> None:
        key = _key(address)
        self._cache[key] = (self._clock() + self._cache_s, location)
        self._cache.move_to_end(key)
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _not_found(self, address: _Address, error: str) -> GeoLocation:
        key = _key(address)
        self._failed[key] = self._clock() + FAILED_FOR_S
        self._failed.move_to_end(key)
        if len(self._failed) > self._cache_size:
            self._failed.popitem(last=False)
        self._unavailable.inc()
        _log.warning("geoip.unavailable", error=error)
        return UNAVAILABLE


class OddLocationError(ValueError):
    """The service answered, and the answer cannot be true."""


def _location(address: _Address, body: bytes) -> GeoLocation:
    """Read the answer for `address`; raises `ValueError` when it is not one."""
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
