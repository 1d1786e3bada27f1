"""Looks addresses up: read, classify, ask the provider about the public ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from common.contracts.geoip import GeoBatch, GeoLocation, GeoLookup, GeoStatus
from common.errors import PlatformError
from external_apis_services.geoip.addresses import NotAnAddressError, read_address
from external_apis_services.geoip.faults import FaultInjector
from external_apis_services.geoip.providers import GeoProvider
from external_apis_services.geoip.schemas import MockFaults

_ANSWERED = Counter("assay_geoip_addresses_total", "Addresses answered.", ["status"])
_COUNTED = {status: _ANSWERED.labels(status.value) for status in GeoStatus}
_RESERVED = GeoLocation(status=GeoStatus.RESERVED)


class InvalidAddressError(PlatformError):
    """A text is not one address; `position` says which entry of a list it was."""

    status_code = 422
    type = "invalid-address"
    title = "This is not one IPv4 or IPv6 address in text form"

    def __init__(self, position: int | None) -> None:
        where = "The address" if position is None else f"ip_addresses.{position}"
        super().__init__(f"{where} must be one IPv4 or IPv6 address, without zone, port or prefix.")


class NoMockProviderError(PlatformError):
    """The control of the mock provider was asked for while another provider answers."""

    status_code = 404
    type = "no-mock-provider"
    title = "The mock GeoIP provider is not in use"


@dataclass(frozen=True)
class GeoLookups:
    """Answers look-ups and remembers nobody who asked; `injector` is there when the provider is the mock."""

    provider: GeoProvider
    injector: FaultInjector | None = None

    async def is_loaded(self) -> bool:
        """Readiness: whether the provider can answer."""
        return self.provider.is_open

    async def look_up(self, text: str) -> GeoLookup:
        """Return where one address is; raises `InvalidAddressError`, and `UnavailableError` from the mock."""
        if self.injector is not None:
            await self.injector.strike()
        return self._find(text)

    async def look_up_all(self, texts: Sequence[str]) -> GeoBatch:
        """Return where each address is, in the given order; raises as `look_up`, naming the first bad position."""
        if self.injector is not None:
            await self.injector.strike()
        return GeoBatch(results=tuple(self._find(text, position) for position, text in enumerate(texts)))

    def faults(self) -> MockFaults:
        """Return how the mock misbehaves; raises `NoMockProviderError`."""
        return self._injector().faults

    def set_faults(self, faults: MockFaults) -> MockFaults:
        """Make the mock misbehave like this; raises `NoMockProviderError`."""
        injector = self._injector()
        injector.set(faults)
        return injector.faults

    def _injector(self) -> FaultInjector:
        if self.injector is None:
            raise NoMockProviderError
        return self.injector

    def _find(self, text: str, position: int | None = None) -> GeoLookup:
        try:
            address = read_address(text)
        except NotAnAddressError:
            raise InvalidAddressError(position) from None
        location = _RESERVED if address.locatable is None else self.provider.locate(address.locatable)
        _COUNTED[location.status].inc()
        return GeoLookup(ip_address=str(address.canonical), location=location)
