import asyncio
from collections.abc import AsyncIterator

import pytest

from common.contracts.tokens import Scope
from common.service_calls import ServiceCalls, open_service_calls
from common.settings import ServiceSettings
from tests.conftest import RunningUserService
from tests.raw_servers import answering, reply
from tests.servers import free_port
from tests.waiting import eventually

TIMEOUT_S = 10


@pytest.fixture
async def calls(users: RunningUserService) -> AsyncIterator[ServiceCalls]:
    settings = ServiceSettings(user_service_url=users.url, _env_file=None)
    async with open_service_calls(settings, client_id="ai_service") as opened:
        yield opened


class TestServiceCalls:
    async def test_become_able_to_verify_and_to_call(
        self, calls: ServiceCalls, users: RunningUserService
    ) -> None:
        await eventually(calls.keys_loaded)
        await eventually(calls.token_available)
        await eventually(calls.access_known)

        principal = await calls.verifier.verify(users.fake.user_token())
        own = await calls.verifier.verify(calls.tokens.header()["Authorization"].removeprefix("Bearer "))

        assert principal.subject == "usr_test"
        assert own.subject == "ai_service"
        assert Scope.ALERTS_WRITE.value in own.scopes

    async def test_close_their_clients_in_the_end(self, users: RunningUserService) -> None:
        settings = ServiceSettings(user_service_url=users.url, _env_file=None)
        async with answering(reply(200)) as base_url:
            async with open_service_calls(settings, client_id="ai_service") as calls:
                client = await calls.client(base_url, timeout_s=TIMEOUT_S)
                response = await client.get("/")
            was_closed = client.is_closed

        assert response.status_code == 200
        assert was_closed

    async def test_start_and_stop_while_user_service_is_away(self) -> None:
        settings = ServiceSettings(user_service_url=f"http://127.0.0.1:{free_port()}", _env_file=None)

        async with asyncio.timeout(TIMEOUT_S), open_service_calls(settings, client_id="ai_service") as calls:
            loaded, available = await calls.keys_loaded(), await calls.token_available()

        assert (loaded, available) == (False, False)
