import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from common.app import Service, create_app
from common.settings import Environment, ServiceSettings
from tests.asgi import open_app


@asynccontextmanager
async def build(_settings: ServiceSettings) -> AsyncIterator[dict[str, Any]]:
    yield {"readiness": {}}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    service = Service(name="tiny_service", summary="", settings_type=ServiceSettings, build=build, routers=[])
    settings = ServiceSettings(environment=Environment.TEST, log_level="error")
    async with open_app(create_app(service, settings)) as opened:
        yield opened


class TestDocsPage:
    async def test_loads_everything_from_here(self, client: httpx.AsyncClient) -> None:
        page = (await client.get("/docs")).text

        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert loaded
        assert not any("//" in address for address in loaded)
        for address in loaded:
            assert (await client.get(address)).status_code == 200

    async def test_shows_the_api_document(self, client: httpx.AsyncClient) -> None:
        page, document = await client.get("/docs"), await client.get("/openapi.json")

        assert "/openapi.json" in page.text
        assert document.json()["info"]["title"] == "Assay tiny_service"
