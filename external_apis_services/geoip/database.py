"""Locations from files: a country or city database, and, where there is one, who announces the address."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import maxminddb

from common.contracts.geoip import GeoLocation
from external_apis_services.geoip.errors import GeoDataError
from external_apis_services.geoip.networks import Networks, NoNetworks, open_networks
from external_apis_services.geoip.records import location_of

FETCH_COMMAND = "python -m external_apis_services.geoip.download"


class DatabaseProvider:
    """Answers from an .mmdb file, mapped into memory, and from `networks`."""

    def __init__(self, reader: maxminddb.Reader, networks: Networks) -> None:
        self._reader = reader
        self._takes_v6 = reader.metadata().ip_version == 6
        self._networks = networks

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return not self._reader.closed

    @property
    def has_networks(self) -> bool:
        """Whether there is data on networks."""
        return not isinstance(self._networks, NoNetworks)

    def locate(self, address: IPv4Address | IPv6Address) -> GeoLocation:
        """Return what the files say of `address`."""
        record = self._reader.get(address) if self._takes_v6 or address.version == 4 else None
        asn, network_kind = self._networks.find(address)
        return location_of(record, asn=asn, network_kind=network_kind)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()
        self._networks.close()


def open_database(*, country_db: Path, asn_db: Path | None) -> DatabaseProvider:
    """Open the files; raises `GeoDataError` saying what to do when the first is missing or either is unreadable."""
    if not country_db.is_file():
        raise GeoDataError(
            f"GEOIP_COUNTRY_DB: there is no file {country_db}. Fetch it with `{FETCH_COMMAND}`, or place any "
            "MaxMind-format .mmdb file with countries or cities there, or set GEOIP_PROVIDER=mock for made-up locations."
        )
    try:
        reader = maxminddb.open_database(country_db)
    except (maxminddb.InvalidDatabaseError, OSError) as error:
        raise GeoDataError(f"GEOIP_COUNTRY_DB is no .mmdb file that can be read: {country_db}") from error
    try:
        return DatabaseProvider(reader, open_networks(asn_db))
    except GeoDataError:
        reader.close()
        raise
