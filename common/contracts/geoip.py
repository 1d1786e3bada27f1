"""Where an IP address is, as external_apis_services answers it."""

from enum import StrEnum

from pydantic import Field

from common.contracts.fields import Contract

MAX_ADDRESSES = 100


class GeoStatus(StrEnum):
    """What became of a look-up; only `found` says where an address is."""

    FOUND = "found"
    UNKNOWN = "unknown"
    RESERVED = "reserved"
    UNAVAILABLE = "unavailable"


class NetworkKind(StrEnum):
    """What sort of network an address belongs to, where that is known."""

    RESIDENTIAL = "residential"
    HOSTING = "hosting"
    MOBILE = "mobile"
    BUSINESS = "business"


class GeoLocation(Contract):
    """What is known of one address; every field but `status` may be unknown."""

    status: GeoStatus
    country: str | None = None
    region: str | None = None
    city: str | None = None
    latitude: float | None = Field(None, ge=-90, le=90, allow_inf_nan=False)
    longitude: float | None = Field(None, ge=-180, le=180, allow_inf_nan=False)
    asn: int | None = Field(None, ge=0, le=4_294_967_295)
    network_kind: NetworkKind | None = None


class GeoLookup(Contract):
    """One address and what was found; `ip_address` is in its canonical form (mapped IPv4 unwrapped)."""

    ip_address: str
    location: GeoLocation


class GeoBatchRequest(Contract):
    """Addresses to look up together."""

    ip_addresses: tuple[str, ...] = Field(min_length=1, max_length=MAX_ADDRESSES)


class GeoBatch(Contract):
    """The answers, in the order of the request."""

    results: tuple[GeoLookup, ...]
