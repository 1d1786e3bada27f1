import pytest

from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from external_apis_services.geoip.records import location_of, network_of

MAXMIND_CITY = {
    "country": {"iso_code": "GB", "names": {"en": "United Kingdom"}},
    "subdivisions": [{"iso_code": "ENG", "names": {"en": "England"}}],
    "city": {"geoname_id": 2655045, "names": {"en": "Boxford", "de": "Boxford"}},
    "location": {"latitude": 51.75, "longitude": -1.25, "time_zone": "Europe/London"},
}
FLAT_CITY = {
    "country_code": "AU",
    "state1": "Queensland",
    "city": "Brisbane",
    "latitude": -27.47,
    "longitude": 153.03,
}


def located(record: object) -> GeoLocation:
    return location_of(record, asn=None, network_kind=None)


class TestLocationOf:
    def test_reads_the_nested_shape(self) -> None:
        assert located(MAXMIND_CITY) == GeoLocation(
            status=GeoStatus.FOUND,
            country="GB",
            region="England",
            city="Boxford",
            latitude=51.75,
            longitude=-1.25,
        )

    def test_reads_the_flat_shape(self) -> None:
        assert located(FLAT_CITY) == GeoLocation(
            status=GeoStatus.FOUND,
            country="AU",
            region="Queensland",
            city="Brisbane",
            latitude=-27.47,
            longitude=153.03,
        )

    def test_reads_a_record_with_a_country_alone(self) -> None:
        assert located({"country_code": "US"}) == GeoLocation(status=GeoStatus.FOUND, country="US")

    def test_adds_what_is_known_of_the_network(self) -> None:
        location = location_of({"country_code": "US"}, asn=16509, network_kind=NetworkKind.HOSTING)

        assert location.asn == 16509
        assert location.network_kind is NetworkKind.HOSTING

    def test_is_unknown_without_a_country_even_when_the_network_is_known(self) -> None:
        location = location_of(None, asn=7018, network_kind=None)

        assert location == GeoLocation(status=GeoStatus.UNKNOWN, asn=7018)

    @pytest.mark.parametrize(
        "record",
        [
            None,
            "US",
            [],
            {},
            {"country_code": "usa"},
            {"country_code": "us"},
            {"country_code": "US\n"},
            {"country_code": "ZZ"},
            {"country_code": 1},
            {"country": "US"},
            {"country": {"iso_code": None}},
        ],
    )
    def test_is_unknown_when_the_record_names_no_country(self, record: object) -> None:
        assert located(record).status is GeoStatus.UNKNOWN

    @pytest.mark.parametrize(
        "place",
        [
            {"latitude": 91.0, "longitude": 0.0},
            {"latitude": 0.0, "longitude": -180.5},
            {"latitude": float("nan"), "longitude": 0.0},
            {"latitude": 0.0},
            {"longitude": 0.0},
            {"latitude": "51.7", "longitude": "-1.2"},
            {"latitude": True, "longitude": 0},
            "somewhere",
        ],
    )
    def test_gives_both_coordinates_or_neither(self, place: object) -> None:
        location = located({"country_code": "GB", "location": place})

        assert location.latitude is location.longitude is None

    @pytest.mark.parametrize("name", [{}, {"names": None}, {"names": {"de": "München"}}, "", 7, "x" * 257])
    def test_leaves_out_a_name_that_makes_no_sense(self, name: object) -> None:
        location = located({"country_code": "DE", "city": name, "subdivisions": [name]})

        assert location.city is location.region is None


class TestNetworkOf:
    def test_reads_number_and_organisation(self) -> None:
        record = {"autonomous_system_number": 13335, "autonomous_system_organization": "Cloudflare, Inc."}

        assert network_of(record) == (13335, "Cloudflare, Inc.")

    @pytest.mark.parametrize("number", [None, 0, -1, 1 << 32, "13335", True])
    def test_has_no_number_when_the_record_has_none(self, number: object) -> None:
        assert network_of({"autonomous_system_number": number}) == (None, "")

    def test_knows_nothing_without_a_record(self) -> None:
        assert network_of(None) == (None, "")
