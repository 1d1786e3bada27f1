"""Reads one record of an .mmdb file, whichever of the two usual shapes it has.

MaxMind's shape nests (`country.iso_code`, `subdivisions[0].names.en`, `location.latitude`); the free files of
ip-location-db are flat (`country_code`, `state1`, `latitude`). What is missing or makes no sense is None.
"""

import re
from typing import Any

from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind

_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_NO_COUNTRY = frozenset({"ZZ", "XX"})
MAX_ASN = 4_294_967_295
MAX_NAME_LENGTH = 256


def location_of(record: object, *, asn: int | None, network_kind: NetworkKind | None) -> GeoLocation:
    """Return the location that `record` states; without a country its status is `unknown`, whatever else is known."""
    fields = record if isinstance(record, dict) else {}
    country = _country(fields)
    latitude, longitude = _coordinates(fields)
    return GeoLocation(
        status=GeoStatus.UNKNOWN if country is None else GeoStatus.FOUND,
        country=country,
        region=_region(fields),
        city=_name(fields.get("city")),
        latitude=latitude,
        longitude=longitude,
        asn=asn,
        network_kind=network_kind,
    )


def network_of(record: object) -> tuple[int | None, str]:
    """Return the number and the organisation of an ASN record; None and an empty name when it has none."""
    fields = record if isinstance(record, dict) else {}
    number = fields.get("autonomous_system_number")
    name = fields.get("autonomous_system_organization")
    known = type(number) is int and 0 < number <= MAX_ASN
    return (number if known else None), (name if isinstance(name, str) else "")


def _country(fields: dict[str, Any]) -> str | None:
    nested = fields.get("country")
    code = nested.get("iso_code") if isinstance(nested, dict) else fields.get("country_code")
    if not isinstance(code, str) or not _COUNTRY.match(code) or code in _NO_COUNTRY:
        return None
    return code


def _region(fields: dict[str, Any]) -> str | None:
    divisions = fields.get("subdivisions")
    if isinstance(divisions, list) and divisions:
        return _name(divisions[0])
    return _name(fields.get("state1"))


def _name(value: object) -> str | None:
    if isinstance(value, dict):
        names = value.get("names")
        value = names.get("en") if isinstance(names, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_LENGTH else None


def _coordinates(fields: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return latitude and longitude, both or neither."""
    place = fields.get("location", fields)
    if not isinstance(place, dict):
        return None, None
    latitude = _degrees(place.get("latitude"), limit=90)
    longitude = _degrees(place.get("longitude"), limit=180)
    return (None, None) if latitude is None or longitude is None else (latitude, longitude)


def _degrees(value: object, *, limit: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -limit <= value <= limit else None
