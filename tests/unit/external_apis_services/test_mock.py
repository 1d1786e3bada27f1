from collections import Counter
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from external_apis_services.geoip.cities import CITIES
from external_apis_services.geoip.mock import FIRST_ASN, MockProvider

SAMPLE_SIZE = 20_000


def sample() -> list[GeoLocation]:
    """Return locations of addresses that are spread evenly over IPv4."""
    provider = MockProvider()
    step = (1 << 32) // SAMPLE_SIZE
    return [provider.locate(IPv4Address(number * step)) for number in range(SAMPLE_SIZE)]


class TestMockProvider:
    def test_gives_the_same_answer_in_every_process_and_release(self) -> None:
        provider = MockProvider()

        assert provider.locate(IPv4Address("81.2.69.160")) == GeoLocation(
            status=GeoStatus.FOUND,
            country="FR",
            region="Ile-de-France",
            city="Paris",
            latitude=48.86,
            longitude=2.35,
            asn=4_200_001_803,
            network_kind=NetworkKind.RESIDENTIAL,
        )
        assert provider.locate(IPv6Address("2a00:1450:4001:80b::200e")).city == "Tokyo"
        assert provider.locate(IPv4Address("1.0.9.0")) == GeoLocation(status=GeoStatus.UNKNOWN)

    @given(st.ip_addresses())
    def test_gives_the_same_complete_answer_every_time(self, address: IPv4Address | IPv6Address) -> None:
        location = MockProvider().locate(address)

        assert location == MockProvider().locate(address)
        complete = None not in location.model_dump().values()
        assert complete is (location.status is GeoStatus.FOUND)

    def test_puts_neighbours_in_the_same_place(self) -> None:
        provider = MockProvider()

        assert len({provider.locate(IPv4Address(f"9.9.9.{host}")) for host in range(256)}) == 1
        assert len({provider.locate(IPv6Address(f"2a00:1:1:{net:x}::1")) for net in range(256)}) == 1
        assert len({provider.locate(IPv4Address(f"9.9.{net}.9")) for net in range(256)}) > 50

    def test_leaves_about_three_in_a_hundred_unknown(self) -> None:
        unknown = sum(location.status is GeoStatus.UNKNOWN for location in sample())

        assert 0.025 < unknown / SAMPLE_SIZE < 0.035

    def test_reaches_every_city_about_as_often_as_its_weight_says(self) -> None:
        drawn = Counter((location.country, location.city) for location in sample() if location.city)
        total = sum(city.weight for city in CITIES)

        for city in CITIES:
            expected = city.weight / total * drawn.total()
            assert abs(drawn[city.country, city.city] - expected) < 5 * expected**0.5

    def test_mixes_the_kinds_of_network(self) -> None:
        kinds = Counter(location.network_kind for location in sample() if location.network_kind)

        assert set(kinds) == set(NetworkKind)
        assert kinds[NetworkKind.RESIDENTIAL] > kinds[NetworkKind.MOBILE] > kinds[NetworkKind.BUSINESS]
        assert 0.04 < kinds[NetworkKind.HOSTING] / kinds.total() < 0.06

    def test_gives_each_network_number_one_country_and_one_kind(self) -> None:
        seen: dict[int, set[tuple[str | None, NetworkKind | None]]] = {}
        for location in sample():
            if location.asn is not None:
                seen.setdefault(location.asn, set()).add((location.country, location.network_kind))

        assert all(len(owners) == 1 for owners in seen.values())
        assert min(seen) >= FIRST_ASN
        assert max(seen) <= 4_294_967_294

    def test_says_when_it_was_closed(self) -> None:
        provider = MockProvider()
        assert provider.is_open

        provider.close()

        assert not provider.is_open


class TestCities:
    def test_are_told_apart_by_country_and_name(self) -> None:
        assert len({(city.country, city.city) for city in CITIES}) == len(CITIES)

    def test_have_plausible_places(self) -> None:
        for city in CITIES:
            assert city.weight > 0
            assert len(city.country) == 2
            assert -60 < city.latitude < 70
            assert -180 < city.longitude < 180
