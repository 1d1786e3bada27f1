from ipaddress import ip_address
from pathlib import Path

import pytest

from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from common.errors import StartupError
from external_apis_services.geoip.database import open_database
from tests.mmdb_files import write_mmdb

NOT_FOUND = GeoLocation(status=GeoStatus.UNKNOWN)


def locate(country_db: Path, address: str, *, asn_db: Path | None = None) -> GeoLocation:
    provider = open_database(country_db=country_db, asn_db=asn_db)
    try:
        return provider.locate(ip_address(address))
    finally:
        provider.close()


class TestDatabaseProvider:
    def test_answers_countries_for_both_families(self, tmp_path: Path) -> None:
        file = write_mmdb(
            tmp_path / "c.mmdb", {"9.0.0.0/8": {"country_code": "US"}, "2a00::/16": {"country_code": "DE"}}
        )

        assert locate(file, "9.1.2.3") == GeoLocation(status=GeoStatus.FOUND, country="US")
        assert locate(file, "2a00:1::1") == GeoLocation(status=GeoStatus.FOUND, country="DE")
        assert locate(file, "8.0.0.1") == NOT_FOUND

    def test_answers_region_city_and_coordinates_where_the_file_has_them(self, tmp_path: Path) -> None:
        file = write_mmdb(
            tmp_path / "city.mmdb",
            {
                "9.0.0.0/8": {
                    "country": {"iso_code": "GB"},
                    "subdivisions": [{"names": {"en": "England"}}],
                    "city": {"names": {"en": "London"}},
                    "location": {"latitude": 51.5, "longitude": -0.25},
                }
            },
        )

        assert locate(file, "9.1.2.3") == GeoLocation(
            status=GeoStatus.FOUND,
            country="GB",
            region="England",
            city="London",
            latitude=51.5,
            longitude=-0.25,
        )

    def test_adds_the_network_from_a_second_mmdb_file(self, tmp_path: Path) -> None:
        countries = write_mmdb(tmp_path / "c.mmdb", {"9.0.0.0/8": {"country_code": "US"}})
        networks = write_mmdb(
            tmp_path / "asn.mmdb",
            {
                "9.0.0.0/9": {
                    "autonomous_system_number": 64500,
                    "autonomous_system_organization": "Example Hosting",
                }
            },
        )

        location = locate(countries, "9.1.2.3", asn_db=networks)

        assert location.asn == 64500
        assert location.network_kind is NetworkKind.HOSTING
        assert locate(countries, "9.200.2.3", asn_db=networks).asn is None

    def test_knows_nothing_of_ipv6_when_the_files_are_for_ipv4(self, tmp_path: Path) -> None:
        countries = write_mmdb(tmp_path / "c.mmdb", {"9.0.0.0/8": {"country_code": "US"}}, ip_version=4)
        networks = write_mmdb(
            tmp_path / "asn.mmdb", {"9.0.0.0/8": {"autonomous_system_number": 64500}}, ip_version=4
        )

        assert locate(countries, "9.1.2.3", asn_db=networks).asn == 64500
        assert locate(countries, "2a00::1", asn_db=networks) == NOT_FOUND

    def test_says_whether_it_is_open_and_has_networks(self, tmp_path: Path) -> None:
        file = write_mmdb(tmp_path / "c.mmdb", {"9.0.0.0/8": {"country_code": "US"}})
        provider = open_database(country_db=file, asn_db=None)

        assert provider.is_open
        assert not provider.has_networks

        provider.close()

        assert not provider.is_open


class TestOpenDatabase:
    def test_says_how_to_get_a_missing_file(self, tmp_path: Path) -> None:
        missing = tmp_path / "countries.mmdb"

        with pytest.raises(StartupError) as caught:
            open_database(country_db=missing, asn_db=None)

        assert str(missing) in str(caught.value)
        assert "python -m external_apis_services.geoip.download" in str(caught.value)

    def test_refuses_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        file = tmp_path / "countries.mmdb"
        file.write_bytes(b"\0" * 1000)

        with pytest.raises(StartupError, match="GEOIP_COUNTRY_DB"):
            open_database(country_db=file, asn_db=None)

    def test_refuses_when_the_networks_cannot_be_read(self, tmp_path: Path) -> None:
        countries = write_mmdb(tmp_path / "c.mmdb", {"9.0.0.0/8": {"country_code": "US"}})
        networks = tmp_path / "asn.mmdb"
        networks.write_bytes(b"nothing")

        with pytest.raises(StartupError, match="GEOIP_ASN_DB"):
            open_database(country_db=countries, asn_db=networks)
