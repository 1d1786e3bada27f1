import asyncio
import json
from contextlib import suppress

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from common.auth.service_tokens import MAX_RETRY_S, RETRY_S, ServiceTokens
from common.contracts.tokens import ServiceTokenRequest
from common.errors import UnavailableError
from tests.waiting import PATIENCE_S

SECRET = "canary-secret"


class TokenServer:
    """Hands out numbered tokens; can be away or odd."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.expires_in: object = 900
        self.status = 200
        self.away = False
        self.body: bytes | None = None
        self.changed = asyncio.Condition()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        async with self.changed:
            self.changed.notify_all()
        if self.away:
            raise httpx.ConnectError("nobody there")
        issued = {
            "access_token": f"token-{len(self.asked)}",
            "token_type": "Bearer",
            "expires_in": self.expires_in,
        }
        return httpx.Response(self.status, content=self.body or json.dumps(issued).encode())

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: len(self.asked) >= times)

    def tokens(self) -> ServiceTokens:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer), base_url="http://users.test")
        credentials = ServiceTokenRequest(client_id="ai_service", client_secret=SecretStr(SECRET))
        return ServiceTokens(client, credentials=credentials)


@pytest.fixture
async def server() -> TokenServer:
    return TokenServer()


class TestRenew:
    async def test_fetches_a_token_with_the_services_own_credentials(self, server: TokenServer) -> None:
        tokens = server.tokens()

        assert await tokens.renew()

        assert tokens.available
        assert tokens.header() == {"Authorization": "Bearer token-1"}
        assert server.asked == [{"client_id": "ai_service", "client_secret": SECRET}]

    async def test_without_a_token_there_is_nothing_to_show(self, server: TokenServer) -> None:
        tokens = server.tokens()

        assert not tokens.available
        with pytest.raises(UnavailableError):
            tokens.header()

    async def test_while_user_service_is_away_the_last_token_is_shown(self, server: TokenServer) -> None:
        tokens = server.tokens()
        await tokens.renew()
        server.away = True

        assert not await tokens.renew()

        assert tokens.header() == {"Authorization": "Bearer token-1"}

    async def test_however_many_show_it_nobody_fetches(self, server: TokenServer) -> None:
        server.expires_in = 1
        tokens = server.tokens()
        await tokens.renew()
        server.away = True
        asked = len(server.asked)

        async with asyncio.timeout(PATIENCE_S):
            while tokens.available:
                for _ in range(100):
                    with suppress(UnavailableError):
                        tokens.header()
                await asyncio.sleep(0.02)

        assert len(server.asked) == asked

    @pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
    async def test_a_refusal_changes_nothing_and_is_logged_without_the_secret(
        self, server: TokenServer, status: int
    ) -> None:
        tokens = server.tokens()
        await tokens.renew()
        server.status = status

        with capture_logs() as lines:
            assert not await tokens.renew()

        assert tokens.available
        assert [line["event"] for line in lines] == ["service_token.not_fetched"]
        assert SECRET not in str(lines)

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>",
            b"{}",
            b"[]",
            b'{"access_token": 5, "expires_in": 900}',
            b'{"access_token": "", "expires_in": 900}',
            b'{"access_token": "a\\nb", "expires_in": 900}',
            '{"access_token": "é", "expires_in": 900}'.encode(),
            b'{"access_token": "a", "expires_in": 0}',
            b'{"access_token": "a", "expires_in": -5}',
            b'{"access_token": "a", "expires_in": NaN}',
        ],
    )
    async def test_an_odd_answer_changes_nothing(self, server: TokenServer, body: bytes) -> None:
        tokens = server.tokens()
        await tokens.renew()
        server.body = body

        assert not await tokens.renew()

        assert tokens.header() == {"Authorization": "Bearer token-1"}

    async def test_an_expired_token_is_not_shown(self, server: TokenServer) -> None:
        server.expires_in = 1
        tokens = server.tokens()
        await tokens.renew()
        async with asyncio.timeout(PATIENCE_S):
            while tokens.available:  # noqa: ASYNC110 - the clock is what is waited for
                await asyncio.sleep(0.02)

        with pytest.raises(UnavailableError):
            tokens.header()


class TestKeepFresh:
    async def test_fetches_at_once_and_lets_those_go_on_who_wait(self, server: TokenServer) -> None:
        tokens = server.tokens()
        keeping = asyncio.create_task(tokens.keep_fresh())

        async with asyncio.timeout(PATIENCE_S):
            await tokens.wait()
        keeping.cancel()

        assert tokens.available

    async def test_renews_at_half_of_a_tokens_life(self, server: TokenServer) -> None:
        server.expires_in = 3
        tokens = server.tokens()
        keeping = asyncio.create_task(tokens.keep_fresh())
        await server.until_asked(1)
        first_at = asyncio.get_running_loop().time()

        await server.until_asked(2)
        waited = asyncio.get_running_loop().time() - first_at
        keeping.cancel()

        assert 1.4 <= waited < 3

    async def test_tries_again_after_an_outage(self, server: TokenServer) -> None:
        server.away = True
        tokens = server.tokens()
        keeping = asyncio.create_task(tokens.keep_fresh())
        await server.until_asked(1)
        server.away = False

        async with asyncio.timeout(PATIENCE_S):
            await tokens.wait()
        keeping.cancel()

        assert tokens.header() == {"Authorization": "Bearer token-2"}


class TestRefused:
    async def test_lets_another_be_fetched_at_once(
        self, server: TokenServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.auth.service_tokens.MAX_RETRY_S", 0.0)
        tokens = server.tokens()
        keeping = asyncio.create_task(tokens.keep_fresh())
        async with asyncio.timeout(PATIENCE_S):
            await tokens.wait()

        tokens.was_refused()
        await server.until_asked(2)
        keeping.cancel()

        assert len(server.asked) == 2

    async def test_again_and_again_soon_after_the_last_costs_nothing(self, server: TokenServer) -> None:
        tokens = server.tokens()
        keeping = asyncio.create_task(tokens.keep_fresh())
        async with asyncio.timeout(PATIENCE_S):
            await tokens.wait()

        for _ in range(100):
            tokens.was_refused()
            await asyncio.sleep(0)
        keeping.cancel()

        assert len(server.asked) == 1


class TestNextTry:
    @pytest.mark.parametrize("status", [401, 429])
    async def test_comes_later_and_later_while_the_service_is_refused(
        self, server: TokenServer, status: int
    ) -> None:
        tokens = server.tokens()
        server.status = status
        waits = []
        for _ in range(20):
            await tokens.renew()
            waits.append(round(tokens.next_try_s))

        assert waits == [2, 4, 8] + [round(MAX_RETRY_S)] * 17

    async def test_comes_soon_after_an_outage(self, server: TokenServer) -> None:
        tokens = server.tokens()
        server.status = 503
        for _ in range(5):
            await tokens.renew()

        assert tokens.next_try_s == pytest.approx(RETRY_S, abs=0.5)

    async def test_is_forgotten_when_a_token_came(self, server: TokenServer) -> None:
        tokens = server.tokens()
        server.status = 401
        for _ in range(5):
            await tokens.renew()
        server.status = 200
        await tokens.renew()
        server.status = 401
        await tokens.renew()

        assert round(tokens.next_try_s) == 2
