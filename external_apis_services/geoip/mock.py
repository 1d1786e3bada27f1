"""Made-up locations for every public address, always the same: for demos and tests that must not need a database."""

from bisect import bisect_right
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from itertools import accumulate

from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from external_apis_services.geoip.cities import CITIES

UNKNOWN_PER_MILLE = 30
# RFC 6996's private numbers: a made-up network is never taken for a real company's.
FIRST_ASN = 4_200_000_000
ASNS_PER_COUNTRY = 100
_IPV4_HOST_BITS = 8
_IPV6_HOST_BITS = 80

_CITY_BOUNDS = tuple(accumulate(city.weight for city in CITIES))
_COUNTRIES = {country: index for index, country in enumerate(sorted({city.country for city in CITIES}))}
# Kind, how many of a hundred networks are of it, how many autonomous systems a country has of it.
_KINDS = (
    (NetworkKind.RESIDENTIAL, 58, 8),
    (NetworkKind.MOBILE, 27, 4),
    (NetworkKind.BUSINESS, 10, 12),
    (NetworkKind.HOSTING, 5, 6),
)
_KIND_BOUNDS = tuple(accumulate(share for _, share, _ in _KINDS))
_UNKNOWN = GeoLocation(status=GeoStatus.UNKNOWN)


class MockProvider:
    """Derives a location from a hash of the network, so that neighbours (IPv4 /24, IPv6 /48) share it as real ones do."""

    def __init__(self) -> None:
        self.is_open = True

    def locate(self, address: IPv4Address | IPv6Address) -> GeoLocation:
        """Return the location of `address`; of a thousand networks about thirty are unknown."""
        host_bits = _IPV4_HOST_BITS if address.version == 4 else _IPV6_HOST_BITS
        network = int(address) >> host_bits
        digest = blake2b(f"{address.version}:{network}".encode(), digest_size=16).digest()
        if _draw(digest, 0, 1000) < UNKNOWN_PER_MILLE:
            return _UNKNOWN
        city = CITIES[bisect_right(_CITY_BOUNDS, _draw(digest, 4, _CITY_BOUNDS[-1]))]
        kind_index = bisect_right(_KIND_BOUNDS, _draw(digest, 8, _KIND_BOUNDS[-1]))
        kind, _, systems = _KINDS[kind_index]
        first_asn = FIRST_ASN + _COUNTRIES[city.country] * ASNS_PER_COUNTRY + kind_index * 20
        return GeoLocation(
            status=GeoStatus.FOUND,
            country=city.country,
            region=city.region,
            city=city.city,
            latitude=city.latitude,
            longitude=city.longitude,
            asn=first_asn + _draw(digest, 12, systems),
            network_kind=kind,
        )

    def close(self) -> None:
        """Say that nothing more will be asked."""
        self.is_open = False


def _draw(digest: bytes, offset: int, bound: int) -> int:
    """Return a number in [0, bound) from four bytes of `digest`."""
    return int.from_bytes(digest[offset : offset + 4], "big") * bound >> 32
