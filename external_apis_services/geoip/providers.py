"""What a source of locations is to this service."""

from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from common.contracts.geoip import GeoLocation


class GeoProvider(Protocol):
    """Knows where public addresses are. It answers from memory: what takes time happens when it is opened."""

    @property
    def is_open(self) -> bool:
        """Whether `locate` may be called."""
        ...

    def locate(self, address: IPv4Address | IPv6Address) -> GeoLocation:
        """Return what is known of a public `address`; status `found` or `unknown`."""
        ...

    def close(self) -> None:
        """Let go of files; nothing may be asked afterwards."""
        ...
