"""What everybody may ask of user_service without a token, and how often."""

from collections.abc import AsyncIterator

import httpx
import pytest

from common.app import create_app
from tests.api.user_service.conftest import AI_SECRET
from tests.asgi import open_app
from user_service.main import SERVICE
from user_service.settings import UserSettings

LIMIT = 5
WRONG = {"email": "nobody@example.org", "password": "not-the-password-1"}
SERVICE_CLIENT = {"client_id": "ai_service", "client_secret": AI_SECRET}


@pytest.fixture
async def limited(settings: UserSettings) -> AsyncIterator[httpx.AsyncClient]:
    chosen = settings.model_copy(update={"unauthenticated_per_minute": LIMIT})
    async with open_app(create_app(SERVICE, chosen)) as opened:
        yield opened


class TestWithoutAToken:
    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/v1/auth/login", WRONG, 401),
            ("/v1/auth/refresh", {"refresh_token": "x" * 40}, 401),
            ("/v1/internal/service-tokens", {**SERVICE_CLIENT, "client_secret": "wrong"}, 401),
            ("/v1/institutions", {}, 422),
        ],
    )
    async def test_a_client_may_ask_so_often_and_no_more(
        self, limited: httpx.AsyncClient, path: str, body: dict[str, str], status: int
    ) -> None:
        answers = [await limited.post(path, json=body) for _ in range(LIMIT + 3)]

        statuses = [answer.status_code for answer in answers]
        assert statuses == [status] * LIMIT + [429] * 3
        assert answers[-1].json()["type"] == "urn:assay:problem:rate-limited"
        assert int(answers[-1].headers["Retry-After"]) >= 1

    async def test_others_at_its_address_do_not_keep_a_service_from_its_token(
        self, limited: httpx.AsyncClient
    ) -> None:
        path = "/v1/internal/service-tokens"
        for client_id in ("ai_service", "log_service", "nobody_1", "nobody_2"):
            for _ in range(LIMIT + 1):
                await limited.post(path, json={"client_id": client_id, "client_secret": "wrong"})
            await limited.post("/v1/auth/login", json=WRONG)
            await limited.post(path, content=b"{", headers={"Content-Type": "application/json"})

        answers = [await limited.post(path, json=SERVICE_CLIENT) for _ in range(LIMIT * 2)]

        assert {answer.status_code for answer in answers} == {200}

    async def test_names_that_are_made_up_count_as_one_and_each_service_as_itself(
        self, limited: httpx.AsyncClient
    ) -> None:
        path = "/v1/internal/service-tokens"
        made_up = [
            await limited.post(path, json={"client_id": f"nobody_{number}", "client_secret": "wrong"})
            for number in range(LIMIT + 2)
        ]
        known = await limited.post(path, json={**SERVICE_CLIENT, "client_secret": "wrong"})

        assert [answer.status_code for answer in made_up] == [401] * LIMIT + [429] * 2
        assert known.status_code == 401

    async def test_keys_are_there_for_everybody_all_the_time(self, limited: httpx.AsyncClient) -> None:
        for path in ("/.well-known/jwks.json", "/health", "/ready", "/metrics"):
            answers = [await limited.get(path) for _ in range(LIMIT * 3)]

            assert {answer.status_code for answer in answers} == {200}
            assert not any("RateLimit" in answer.headers for answer in answers)

    async def test_a_refused_request_is_not_looked_at(self, limited: httpx.AsyncClient) -> None:
        for _ in range(LIMIT):
            await limited.post("/v1/auth/login", json=WRONG)

        response = await limited.post("/v1/auth/login?unknown=1", content=b"{")

        assert response.status_code == 429
