"""Builds what the service needs: the location files or their mock, the rates, and the keys that tokens are checked with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import structlog

from common.app import State
from common.background import running
from common.errors import StartupError
from common.service_calls import open_service_calls
from common.valkey.calls import open_shared
from external_apis_services.geoip.database import open_database
from external_apis_services.geoip.faults import FaultInjector
from external_apis_services.geoip.mock import MockProvider
from external_apis_services.geoip.schemas import MockFaults
from external_apis_services.geoip.service import GeoLookups
from external_apis_services.rates.service import SAMPLE_FILE, RateBook
from external_apis_services.rates.table_file import RatesFileError
from external_apis_services.settings import ExternalApisSettings, GeoProviderName

_log = structlog.get_logger()


@asynccontextmanager
async def build(settings: ExternalApisSettings) -> AsyncIterator[State]:
    """Open everything, yield what requests use, close everything; raises `StartupError`."""
    rates = RateBook(settings.rates_file or SAMPLE_FILE, check_s=settings.rates_check_s)
    try:
        await rates.load()
    except RatesFileError as error:
        raise StartupError(f"RATES_FILE cannot be used: {error}") from error
    lookups = await _open_lookups(settings)
    with closing(lookups.provider):
        async with (
            open_shared(settings) as valkey,
            open_service_calls(settings, client_id="external_apis_services", valkey=valkey) as calls,
            running(rates.keep_fresh),
        ):
            yield {
                "geo_lookups": lookups,
                "rates": rates,
                "token_verifier": calls.verifier,
                "valkey": valkey,
                "readiness": {
                    "provider_loaded": lookups.is_loaded,
                    "rates_loaded": rates.is_loaded,
                    "keys_loaded": calls.keys_loaded,
                    "access_known": calls.access_known,
                },
            }


async def _open_lookups(settings: ExternalApisSettings) -> GeoLookups:
    if settings.geoip_provider is GeoProviderName.MOCK:
        faults = MockFaults(
            latency_ms=settings.mock_geoip_latency_ms,
            error_rate=settings.mock_geoip_error_rate,
            outage=settings.mock_geoip_outage,
        )
        _log.warning("geoip.mock_in_use")
        return GeoLookups(MockProvider(), FaultInjector(faults))
    provider = await asyncio.to_thread(
        open_database, country_db=settings.geoip_country_db, asn_db=settings.geoip_asn_db
    )
    _log.info("geoip.database_loaded", has_networks=provider.has_networks)
    return GeoLookups(provider)
