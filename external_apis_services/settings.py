"""What external_apis_services is told."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from common.settings import OptionalPath, ServiceSettings
from external_apis_services.geoip.schemas import MAX_LATENCY_MS


class GeoProviderName(StrEnum):
    """Where locations come from."""

    DATABASE = "database"
    MOCK = "mock"


class ExternalApisSettings(ServiceSettings):
    """Settings of the look-ups and of the currency rates."""

    port: int = Field(8005, ge=0, le=65535, description="port to listen on")
    geoip_provider: GeoProviderName = Field(
        GeoProviderName.DATABASE,
        description="database (files below) or mock (made-up locations for any address)",
    )
    geoip_country_db: Path = Field(
        Path("var/geoip/geo-whois-asn-country.mmdb"),
        description="MaxMind-format .mmdb with countries, or with cities and coordinates",
    )
    geoip_asn_db: OptionalPath = Field(
        Path("var/geoip"),
        description="ASN .mmdb, or a directory with asn-ipv4-num.csv and asn-ipv6-num.csv; without it networks are unknown",
    )
    mock_geoip_latency_ms: int = Field(
        0, ge=0, le=MAX_LATENCY_MS, description="milliseconds the mock provider adds to every answer"
    )
    mock_geoip_error_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="share of calls the mock provider fails, evenly spread",
    )
    mock_geoip_outage: bool = Field(False, description="the mock provider fails every call")
    rates_file: OptionalPath = Field(
        None, description="CSV of dated currency rates; empty: the made-up sample that is shipped"
    )
    rates_check_s: float = Field(
        5.0, ge=0.01, le=3600, description="seconds between looks whether the rates file has changed"
    )

    def why_one_process(self) -> str | None:
        """Files are the same for all; the mock's faults are set in one process."""
        if self.geoip_provider is GeoProviderName.MOCK:
            return "the faults of GEOIP_PROVIDER=mock are set in one process"
        return None
