"""The routes about API keys that keep something: nothing is answered before it is kept."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from common.clock import epoch_ms
from tests.api.user_service.conftest import AI_SECRET, Admin, bearer, exchange, make_key, service_token
from tests.commits import Route, check_commit_comes_first, check_failed_commit_is_an_outage

Ask = Callable[[httpx.AsyncClient, Admin, dict[str, Any]], Awaitable[httpx.Response]]


@pytest.fixture
async def key(client: httpx.AsyncClient, admin: Admin) -> dict[str, Any]:
    """An API key, and the token of a service beside it."""
    token = (await service_token(client, "ai_service", AI_SECRET)).json()["access_token"]
    return {**await make_key(client, admin), "service": bearer(token)}


async def tell_uses(client: httpx.AsyncClient, _admin: Admin, key: dict[str, Any]) -> httpx.Response:
    uses = {"uses": [{"key_id": key["key_id"], "used_at_ms": epoch_ms()}]}
    return await client.post("/v1/internal/key-uses", headers=key["service"], json=uses)


COMMITTING: dict[Route, Ask] = {
    ("POST", "/v1/api-keys"): lambda client, admin, _key: client.post(
        "/v1/api-keys", headers=admin.headers, json={"name": "other", "scopes": ["score:write"]}
    ),
    ("POST", "/v1/api-keys/{key_id}/rotate"): lambda client, admin, key: client.post(
        f"/v1/api-keys/{key['key_id']}/rotate", headers=admin.headers, json={}
    ),
    ("DELETE", "/v1/api-keys/{key_id}"): lambda client, admin, key: client.delete(
        f"/v1/api-keys/{key['key_id']}", headers=admin.headers
    ),
    ("POST", "/v1/auth/token"): lambda client, _admin, key: exchange(client, key),
    ("POST", "/v1/internal/key-uses"): tell_uses,
}


@pytest.mark.parametrize("route", COMMITTING, ids=" ".join)
class TestCommit:
    async def test_comes_before_the_first_byte_of_the_answer(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], route: Route
    ) -> None:
        await check_commit_comes_first(client, lambda: COMMITTING[route](client, admin, key))

    async def test_that_fails_is_an_outage_after_which_the_same_request_succeeds(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], route: Route
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: COMMITTING[route](client, admin, key))

        again = await COMMITTING[route](client, admin, key)

        assert again.is_success, again.text
