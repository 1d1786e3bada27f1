"""The web door of external_apis_services: where IP addresses are, and what currencies are worth."""

from common.app import Service, create_app
from external_apis_services.bootstrap import build
from external_apis_services.geoip.endpoints import router as geoip_router
from external_apis_services.rates.endpoints import router as rates_router
from external_apis_services.settings import ExternalApisSettings

SERVICE = Service(
    name="external_apis_services",
    summary="Look-ups that the scoring path needs from outside: locations of IP addresses and dated currency rates.",
    settings_type=ExternalApisSettings,
    build=build,
    routers=(geoip_router, rates_router),
)
app = create_app(SERVICE)
