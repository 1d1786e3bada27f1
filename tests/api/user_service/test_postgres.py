"""What depends on how PostgreSQL lets transactions overlap; SQLite lets only one write at a time."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from common.app import create_app
from common.contracts.access import AccessFeed, Tier
from tests.api.user_service.conftest import (
    AI_SECRET,
    PASSWORD,
    Admin,
    bearer,
    exchange,
    make_key,
    register,
    service_token,
)
from tests.asgi import open_app
from tests.postgres import PostgresServer, demoted
from user_service.main import SERVICE
from user_service.settings import UserSettings


@pytest.fixture
async def client(new_settings: UserSettings, postgres_url: str) -> AsyncIterator[httpx.AsyncClient]:
    more = {
        "database_url": SecretStr(postgres_url),
        "registration_tier": Tier.ENTERPRISE,
    }  # requests come all at once
    settings = new_settings.model_copy(update=more)
    async with open_app(create_app(SERVICE, settings)) as opened:
        yield opened


async def read(client: httpx.AsyncClient, *, after: AccessFeed | None = None) -> AccessFeed:
    token = (await service_token(client, "ai_service", AI_SECRET)).json()["access_token"]
    asked: dict[str, str | int] = {} if after is None else {"after": after.version, "mark": after.mark}
    response = await client.get("/v1/internal/access-feed", params=asked, headers=bearer(token))
    return AccessFeed.model_validate_json(response.content)


class TestFeed:
    async def test_holds_back_no_change_of_transactions_that_overlap(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        seen: list[str] = []
        known = await read(client)
        writing = asyncio.gather(*(make_key(client, admin) for _ in range(30)))
        while not writing.done() or len(seen) < 30:
            feed = await read(client, after=known)
            seen += [key.key_id for key in feed.api_keys]
            assert feed.version - known.version == len(feed.api_keys)
            known = feed

        assert sorted(seen) == sorted(key["key_id"] for key in await writing)


class TestKeys:
    async def test_are_rotated_once_and_revoked_while_others_use_them(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        key = await make_key(client, admin)
        path = f"/v1/api-keys/{key['key_id']}"

        answers = await asyncio.gather(
            *(client.post(f"{path}/rotate", headers=admin.headers, json={}) for _ in range(4)),
            *(exchange(client, key) for _ in range(4)),
            *(make_key(client, admin) for _ in range(4)),
        )
        statuses = [answer.status_code for answer in answers[:8] if isinstance(answer, httpx.Response)]
        revoked = await client.delete(path, headers=admin.headers)

        assert sorted(statuses) == [200, 200, 200, 200, 201, 409, 409, 409]
        assert revoked.status_code == 204
        assert (await exchange(client, key)).status_code == 401

    async def test_of_one_institution_end_at_the_limit(self, client: httpx.AsyncClient, admin: Admin) -> None:
        other = await register(client, email="eve@other.example")
        body = {"name": "many", "scopes": ["score:write"]}

        statuses = []
        for _ in range(7):  # as many at once as there are connections, nearly: nobody waits for one in vain
            answers = await asyncio.gather(
                *(client.post("/v1/api-keys", headers=admin.headers, json=body) for _ in range(15))
            )
            statuses += [answer.status_code for answer in answers]

        assert (statuses.count(201), statuses.count(409)) == (100, 5)
        assert (await client.post("/v1/api-keys", headers=other.headers, json=body)).status_code == 201


class TestAFailover:
    async def test_is_an_outage_that_ends_by_itself(
        self, client: httpx.AsyncClient, admin: Admin, postgres_server: PostgresServer, postgres_url: str
    ) -> None:
        async def asked() -> tuple[int, int]:
            body = {"email": admin.email, "password": PASSWORD}
            answer = await client.post("/v1/auth/login", json=body)
            return answer.status_code, (await client.get("/ready")).status_code

        with demoted(postgres_server, postgres_url):
            away = [await asked() for _ in range(2)]
        back = [await asked() for _ in range(2)]

        assert away == [(503, 503)] * 2
        assert back == [(200, 200)] * 2
