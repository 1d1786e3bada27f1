import io
import random
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from rich.console import Console

from common.contracts.geoip import GeoStatus, NetworkKind
from external_apis_services.geoip.addresses import read_address
from external_apis_services.geoip.database import DatabaseProvider, open_database
from external_apis_services.geoip.download.__main__ import main
from external_apis_services.geoip.download.pins import PACKAGES


@pytest.fixture(scope="module")
def provider(geoip_data: Path) -> Iterator[DatabaseProvider]:
    """The database provider as it starts by default."""
    opened = open_database(country_db=geoip_data / "geo-whois-asn-country.mmdb", asn_db=geoip_data)
    yield opened
    opened.close()


class TestRealData:
    @pytest.mark.parametrize(
        ("text", "country", "asn", "kind"),
        [
            ("8.8.8.8", "US", 15169, NetworkKind.HOSTING),
            ("81.2.69.160", "GB", 20712, None),
            ("208.54.4.1", "US", 21928, NetworkKind.MOBILE),
            ("2606:4700:4700::1111", "US", 13335, NetworkKind.HOSTING),
            ("2003::1", "DE", 3320, None),
        ],
    )
    def test_places_well_known_addresses(
        self, provider: DatabaseProvider, text: str, country: str, asn: int, kind: NetworkKind | None
    ) -> None:
        location = provider.locate(ip_address(text))

        assert location.status is GeoStatus.FOUND
        assert (location.country, location.asn, location.network_kind) == (country, asn, kind)

    def test_finds_nearly_every_public_address(self, provider: DatabaseProvider) -> None:
        drawn = random.Random(20260617)  # noqa: S311 - a sample, no secret
        texts = (str(IPv4Address(drawn.getrandbits(32))) for _ in range(20_000))
        public = [read.locatable for read in map(read_address, texts) if read.locatable is not None]

        found = sum(provider.locate(address).status is GeoStatus.FOUND for address in public)

        assert len(public) > 15_000
        assert found / len(public) > 0.95

    def test_never_guesses_that_a_network_is_residential(self, provider: DatabaseProvider) -> None:
        drawn = random.Random(7)  # noqa: S311 - a sample, no secret
        kinds = {provider.locate(IPv4Address(drawn.getrandbits(32))).network_kind for _ in range(20_000)}

        assert kinds == {None, NetworkKind.HOSTING, NetworkKind.MOBILE}

    def test_answers_across_the_whole_space_of_ipv6(self, provider: DatabaseProvider) -> None:
        drawn = random.Random(6)  # noqa: S311 - a sample, no secret
        for _ in range(20_000):
            address = read_address(str(ip_address((0b001 << 125) | drawn.getrandbits(125))))
            if address.locatable is not None:
                provider.locate(address.locatable)


class TestDownloadCommand:
    def test_says_that_everything_is_already_there(self, geoip_data: Path) -> None:
        screen = io.StringIO()

        status = main(["--directory", str(geoip_data)], Console(file=screen, width=200))

        assert status == 0
        assert screen.getvalue().count("already there") == len(PACKAGES)
