"""The real service over ASGI, with the mock provider, the sample rates and a stand-in for user_service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from common.app import create_app
from common.contracts.tokens import Scope
from external_apis_services.main import SERVICE
from external_apis_services.settings import ExternalApisSettings, GeoProviderName
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.fakes import FakeUserService
from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class RunningService:
    """A client for the service, and who signs the tokens."""

    client: httpx.AsyncClient
    users: FakeUserService

    def headers(self, *scopes: Scope) -> dict[str, str]:
        """Return the headers of a service that holds `scopes`."""
        return {"Authorization": f"Bearer {self.users.service_token(*scopes)}"}


Start = Callable[..., AbstractAsyncContextManager[RunningService]]


@pytest.fixture
def start(users: RunningUserService) -> Start:
    """Start the service with changed settings."""

    @asynccontextmanager
    async def running(**changes: object) -> AsyncIterator[RunningService]:
        values = {"geoip_provider": GeoProviderName.MOCK, "user_service_url": users.url, **changes}
        async with open_app(create_app(SERVICE, ExternalApisSettings.model_validate(values))) as client:
            async with asyncio.timeout(PATIENCE_S):
                while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110 - readiness is asked for
                    await asyncio.sleep(0.01)
            yield RunningService(client, users.fake)

    return running


@pytest.fixture
async def service(start: Start) -> AsyncIterator[RunningService]:
    """The service as it starts with the mock provider."""
    async with start() as running:
        yield running
