"""Where simulated addresses are: one pool of public IPv4 addresses, looked up once and handed out by city. Pure."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from typing import TypeVar

import numpy as np

from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind

T = TypeVar("T")
Locate = Callable[[Sequence[str]], Sequence[GeoLocation]]
"""Says where addresses are, many at a time, in their order."""

UNKNOWN = GeoLocation(status=GeoStatus.UNKNOWN)
EURO_COUNTRIES = frozenset({"AT", "BE", "DE", "ES", "FI", "FR", "GR", "IE", "IT", "NL", "PT"})
EURO_PREFERENCE = 8.0
MIN_ADDRESSES_AT_HOME = 4
MIN_HOSTING = 3
# first octets that hold reserved ranges, and those that are not handed out
_AVOIDED = frozenset({0, 10, 100, 127, 169, 172, 192, 198, 203})
_LAST_UNICAST = 223

_CITIES = (
    ("DE", "Berlin", "Berlin", 52.52, 13.41),
    ("DE", "Bavaria", "Munich", 48.14, 11.58),
    ("DE", "Hamburg", "Hamburg", 53.55, 9.99),
    ("FR", "Ile-de-France", "Paris", 48.86, 2.35),
    ("FR", "Auvergne-Rhone-Alpes", "Lyon", 45.76, 4.84),
    ("ES", "Madrid", "Madrid", 40.42, -3.70),
    ("IT", "Lombardy", "Milan", 45.46, 9.19),
    ("NL", "North Holland", "Amsterdam", 52.37, 4.90),
    ("PT", "Lisbon", "Lisbon", 38.72, -9.14),
    ("GB", "England", "London", 51.51, -0.13),
    ("SE", "Stockholm", "Stockholm", 59.33, 18.07),
    ("PL", "Masovia", "Warsaw", 52.23, 21.01),
    ("CH", "Zurich", "Zurich", 47.38, 8.54),
    ("US", "New York", "New York", 40.71, -74.01),
    ("US", "California", "Los Angeles", 34.05, -118.24),
    ("BR", "Sao Paulo", "Sao Paulo", -23.55, -46.63),
    ("NG", "Lagos", "Lagos", 6.52, 3.38),
    ("TR", "Istanbul", "Istanbul", 41.01, 28.98),
    ("IN", "Maharashtra", "Mumbai", 19.08, 72.88),
    ("ID", "Jakarta", "Jakarta", -6.21, 106.85),
    ("JP", "Tokyo", "Tokyo", 35.68, 139.69),
    ("AU", "New South Wales", "Sydney", -33.87, 151.21),
)
_KINDS = (NetworkKind.RESIDENTIAL, NetworkKind.MOBILE, NetworkKind.BUSINESS, NetworkKind.HOSTING)
_KIND_BOUNDS = (147, 218, 242, 256)  # of 256 networks
_UNKNOWN_BELOW = 13  # of 256 networks: about 5 %


class TooFewPlacesError(Exception):
    """The look-up says too little to give customers homes."""


@dataclass(frozen=True)
class Address:
    """An IP address and what enrichment finds for it."""

    text: str
    location: GeoLocation


@dataclass(frozen=True)
class City:
    """A city and the addresses in it that are not hosting networks; the pool is used from the front and round."""

    country: str
    latitude: float
    longitude: float
    addresses: list[Address] = field(default_factory=list)


@dataclass(frozen=True)
class Places:
    """All cities customers live in or travel to, addresses of hosting networks, and addresses nobody can place."""

    cities: tuple[City, ...]
    home_bounds: tuple[float, ...]
    hosting: tuple[Address, ...]
    unknown: tuple[Address, ...]

    def home(self, rng: np.random.Generator) -> City:
        """Return a city for a customer, more often one with many addresses or the euro."""
        return self.cities[bisect_right(self.home_bounds, rng.random() * self.home_bounds[-1])]

    def abroad(self, rng: np.random.Generator, country: str) -> City:
        """Return a city outside `country`."""
        foreign = [city for city in self.cities if city.country != country]
        return pick(rng, foreign)


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """Return one of `items`, each as likely as the others."""
    return items[int(rng.integers(len(items)))]


def locate_by_hash(addresses: Sequence[str]) -> list[GeoLocation]:
    """Return made-up locations, always the same for an address: training needs no network and no database."""
    return [_locate(address) for address in addresses]


def _locate(address: str) -> GeoLocation:
    network = address.rpartition(".")[0]
    draw = blake2b(network.encode(), digest_size=4).digest()
    if draw[0] < _UNKNOWN_BELOW:
        return UNKNOWN
    country, region, city, latitude, longitude = _CITIES[draw[1] * len(_CITIES) // 256]
    return GeoLocation(
        status=GeoStatus.FOUND,
        country=country,
        region=region,
        city=city,
        latitude=latitude,
        longitude=longitude,
        network_kind=_KINDS[bisect_right(_KIND_BOUNDS, draw[2])],
    )


def draw_places(rng: np.random.Generator, locate: Locate, *, addresses: int) -> Places:
    """Draw public-looking addresses, ask where they are, and sort them; raises `TooFewPlacesError`."""
    texts = [_random_address(rng) for _ in range(addresses)]
    cities: dict[tuple[str, str], City] = {}
    hosting: list[Address] = []
    unknown: list[Address] = []
    for text, location in zip(texts, locate(texts), strict=True):
        address = Address(text, location)
        if location.country is None or location.latitude is None or location.longitude is None:
            unknown.append(address)
        elif location.network_kind is NetworkKind.HOSTING:
            hosting.append(address)
        else:
            key = (location.country, location.city or "")
            city = cities.setdefault(key, City(location.country, location.latitude, location.longitude))
            city.addresses.append(address)
    usable = tuple(city for city in cities.values() if len(city.addresses) >= MIN_ADDRESSES_AT_HOME)
    if len({city.country for city in usable}) < 2:
        raise TooFewPlacesError("The look-up places addresses in fewer than two countries.")
    weights = (
        len(city.addresses) * (EURO_PREFERENCE if city.country in EURO_COUNTRIES else 1.0) for city in usable
    )
    return Places(usable, tuple(accumulate(weights)), _or_any(hosting, usable), tuple(unknown))


def _or_any(hosting: list[Address], cities: Sequence[City]) -> tuple[Address, ...]:
    """Where the look-up knows no hosting networks, let frauds come from anywhere."""
    return tuple(hosting) if len(hosting) >= MIN_HOSTING else tuple(city.addresses[-1] for city in cities)


def _random_address(rng: np.random.Generator) -> str:
    first = 0
    while first in _AVOIDED:
        first = int(rng.integers(1, _LAST_UNICAST + 1))
    second, third, fourth = rng.integers([0, 0, 1], [256, 256, 255]).tolist()
    return f"{first}.{second}.{third}.{fourth}"
