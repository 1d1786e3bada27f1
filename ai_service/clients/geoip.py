"""Asks external_apis_services where an address is; remembers what it was told, one look-up per address at a time."""

import asyncio
import time
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address

import httpx
import structlog
from prometheus_client import Counter
from pydantic import ValidationError

from common.auth.service_tokens import ServiceTokens
from common.contracts.geoip import GeoLocation, GeoLookup, GeoStatus
from common.errors import PlatformError

UNAVAILABLE = GeoLocation(status=GeoStatus.UNAVAILABLE)
LOOKUPS = Counter("assay_geoip_lookups_total", "GeoIP look-ups by where the answer came from.", ["answer"])
_log = structlog.get_logger()
_Address = IPv4Address | IPv6Address


class GeoIpClient:
    """Locations by address. A look-up that fails or takes too long is `unavailable` and is not remembered."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        tokens: ServiceTokens,
        *,
        timeout_s: float,
        cache_s: float,
        cache_size: int,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._cache_s = cache_s
        self._cache_size = cache_size
        self._cache: OrderedDict[_Address, tuple[float, GeoLocation]] = OrderedDict()
        self._running: dict[_Address, asyncio.Task[GeoLocation]] = {}
        self._hits, self._misses, self._failures = (
            LOOKUPS.labels(answer) for answer in ("cache", "service", "unavailable")
        )

    async def locate(self, address: _Address) -> GeoLocation:
        """Return where `address` is; never raises."""
        known = self._cache.get(address)
        if known is not None and known[0] > time.monotonic():
            self._hits.inc()
            return known[1]
        task = self._running.get(address)
        if task is None:
            task = self._running[address] = asyncio.create_task(self._look_up(address))
            task.add_done_callback(lambda _task: self._running.pop(address, None))
        return await asyncio.shield(task)

    async def _look_up(self, address: _Address) -> GeoLocation:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.get(
                    f"/v1/internal/geoip/{address}", headers=self._tokens.header()
                )
            response.raise_for_status()
            location = GeoLookup.model_validate_json(response.content).location
        except (TimeoutError, httpx.HTTPError, ValidationError, PlatformError, OSError) as error:
            self._failures.inc()
            _log.warning("geoip.unavailable", error=type(error).__name__)
            return UNAVAILABLE
        self._misses.inc()
        if location.status is not GeoStatus.UNAVAILABLE:
            self._remember(address, location)
        return location

    def _remember(self, address: _Address, location: GeoLocation) -> None:
        self._cache[address] = (time.monotonic() + self._cache_s, location)
        self._cache.move_to_end(address)
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
