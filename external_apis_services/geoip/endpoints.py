"""Routes that say where IP addresses are. They are for the platform's own services."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from common.auth.bearer import require_service
from common.contracts.fields import Contract
from common.contracts.geoip import GeoBatch, GeoBatchRequest, GeoLookup
from common.contracts.tokens import Scope
from common.problems import refusals
from common.strict_json import StrictRoute
from external_apis_services.geoip.schemas import MockFaults
from external_apis_services.geoip.service import GeoLookups, InvalidAddressError, NoMockProviderError

router = APIRouter(prefix="/v1/internal/geoip", route_class=StrictRoute, tags=["geoip"])
_can_read = Depends(require_service(Scope.GEOIP_READ))
_can_control = Depends(require_service(Scope.GEOIP_CONTROL))


@router.get(
    "/mock", dependencies=[_can_control], response_model=MockFaults, responses=refusals(NoMockProviderError)
)
async def read_mock_faults(request: Request) -> Response:
    """Return how the mock provider misbehaves now."""
    return _json(_lookups(request).faults())


@router.put(
    "/mock",
    dependencies=[_can_control],
    response_model=MockFaults,
    responses=refusals(NoMockProviderError),
)
async def set_mock_faults(request: Request, faults: MockFaults) -> Response:
    """Make the mock provider slow, faulty or absent; what the body leaves out is off."""
    return _json(_lookups(request).set_faults(faults))


@router.post(
    "/batch", dependencies=[_can_read], response_model=GeoBatch, responses=refusals(InvalidAddressError)
)
async def look_up_addresses(request: Request, batch: GeoBatchRequest) -> Response:
    """Return where each of up to 100 addresses is, in the order of the request."""
    return _json(await _lookups(request).look_up_all(batch.ip_addresses))


# The converter takes slashes too, so that `1.2.3.4/32` is refused as an address and not as an unknown route.
@router.get(
    "/{ip_address:path}",
    dependencies=[_can_read],
    response_model=GeoLookup,
    responses=refusals(InvalidAddressError),
)
async def look_up_address(
    request: Request, ip_address: Annotated[str, Path(examples=["81.2.69.160"])]
) -> Response:
    """Return where one IPv4 or IPv6 address is.

    `status` is `found`, `unknown`, or `reserved` for addresses that are on no public network. `network_kind` is a guess
    from the name of the network's owner and often unknown. Default data: countries by NRO, networks by Route Views,
    NRO and [DB-IP](https://db-ip.com) (CC BY 4.0).
    """
    return _json(await _lookups(request).look_up(ip_address))


def _lookups(request: Request) -> GeoLookups:
    lookups: GeoLookups = request.state.geo_lookups
    return lookups


def _json(answer: Contract) -> Response:
    # straight to bytes: checking our own answer a second time would cost more than the look-up
    return Response(answer.__pydantic_serializer__.to_json(answer), media_type="application/json")
