"""What user_service says to the other services over a real Valkey when rights change."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from common.app import create_app
from common.contracts.access import ANNOUNCEMENTS
from common.valkey.calls import open_valkey
from common.valkey.messages import MISSED, Subscription
from tests.api.user_service.conftest import Admin, register
from tests.asgi import open_app_apart
from tests.valkey import ValkeyServer
from tests.waiting import PATIENCE_S
from user_service.main import SERVICE
from user_service.settings import UserSettings


@pytest.fixture
async def heard(valkey_url: str) -> AsyncIterator[Subscription]:
    async with open_valkey(SecretStr(valkey_url), timeout_s=2) as calls:
        subscription = calls.messages.subscribe(ANNOUNCEMENTS)
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(subscription) is MISSED
        yield subscription


@pytest.fixture
async def client(
    settings: UserSettings, valkey_url: str, heard: Subscription
) -> AsyncIterator[httpx.AsyncClient]:
    shared = {"valkey_url": SecretStr(valkey_url), "valkey_timeout_ms": 2000}
    async with open_app_apart(create_app(SERVICE, settings.model_copy(update=shared))) as opened:
        yield opened


@pytest.fixture
async def admin(client: httpx.AsyncClient, heard: Subscription) -> Admin:
    admin = await register(client)
    await next_of(heard)
    return admin


async def next_of(heard: Subscription) -> object:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(heard)


class TestAChangeOfRights:
    async def test_is_announced(self, client: httpx.AsyncClient, admin: Admin, heard: Subscription) -> None:
        answer = await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        assert answer.status_code == 204, answer.text
        assert await next_of(heard) == b"changed"

    async def test_is_announced_without_saying_whose(
        self, client: httpx.AsyncClient, admin: Admin, heard: Subscription
    ) -> None:
        body = {"name": "till", "scopes": ["score:write"]}
        answer = await client.post("/v1/api-keys", json=body, headers=admin.headers)

        assert answer.status_code == 201, answer.text
        assert await next_of(heard) == b"changed"

    async def test_is_made_all_the_same_while_valkey_is_away(
        self, settings: UserSettings, valkey_server: ValkeyServer
    ) -> None:
        away = {"valkey_url": SecretStr("valkey://127.0.0.1:9/0"), "valkey_timeout_ms": 100}
        async with open_app_apart(create_app(SERVICE, settings.model_copy(update=away))) as client:
            admin = await register(client)
            answer = await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})
            after = await client.get("/v1/users/me", headers=admin.headers)

        assert (answer.status_code, after.status_code) == (204, 401)
        assert valkey_server.process.poll() is None


class TestWhatChangesNoRights:
    async def test_is_not_announced(
        self, client: httpx.AsyncClient, admin: Admin, heard: Subscription
    ) -> None:
        answer = await client.get("/v1/users/me", headers=admin.headers)

        assert answer.status_code == 200
        await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})
        assert await next_of(heard) == b"changed"
        assert heard.waiting == 0
