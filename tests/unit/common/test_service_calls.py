import asyncio
from collections.abc import AsyncIterator

import pytest

from common.auth.principal import UnauthenticatedError
from common.contracts.tokens import Scope
from common.service_calls import ServiceCalls, open_service_calls
from common.settings import ServiceSettings
from tests.conftest import RunningUserService
from tests.factories import SANDBOX
from tests.fakes import institution_access, key_access
from tests.raw_servers import answering, reply
from tests.servers import free_port
from tests.waiting import eventually

TIMEOUT_S = 10
NEW = "ask_test_0123abcd_" + "s" * 43


@pytest.fixture
async def calls(users: RunningUserService) -> AsyncIterator[ServiceCalls]:
    settings = ServiceSettings(user_service_url=users.url, access_poll_s=30, _env_file=None)
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


class TestNewKeys:
    async def test_are_let_in_at_once(self, calls: ServiceCalls, users: RunningUserService) -> None:
        await eventually(calls.access_known)
        users.fake.access += [institution_access(SANDBOX), key_access(NEW, SANDBOX, Scope.SCORE_WRITE)]

        holder = await calls.verifier.verify_key(NEW.encode())

        assert holder.session_id == "key_test"

    async def test_are_let_in_at_once_by_their_tokens_too(
        self, calls: ServiceCalls, users: RunningUserService
    ) -> None:
        await eventually(calls.keys_loaded)
        await eventually(calls.access_known)
        key = key_access(NEW, SANDBOX, Scope.SCORE_WRITE)
        users.fake.access += [institution_access(SANDBOX), key]

        holder = await calls.verifier.verify(users.fake.api_key_token(key, institution=SANDBOX))

        assert holder.session_id == "key_test"

    async def test_that_nobody_made_cost_one_look_a_second_however_many_come(
        self, calls: ServiceCalls, users: RunningUserService
    ) -> None:
        await eventually(calls.access_known)
        asked = users.fake.access_asked
        guesses = [f"ask_test_0123abcd_{number:043}" for number in range(200)]

        refused = await asyncio.gather(
            *(calls.verifier.verify_key(guess.encode()) for guess in guesses), return_exceptions=True
        )

        assert {type(each) for each in refused} == {UnauthenticatedError}
        assert users.fake.access_asked == asked + 1

    async def test_of_another_form_cost_none(self, calls: ServiceCalls, users: RunningUserService) -> None:
        await eventually(calls.access_known)
        asked = users.fake.access_asked

        for guess in (b"guess", b"ask_test_0123abcd_short", b"x" * 300):
            with pytest.raises(UnauthenticatedError):
                await calls.verifier.verify_key(guess)

        assert users.fake.access_asked == asked
