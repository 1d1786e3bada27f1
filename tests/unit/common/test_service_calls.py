import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.auth.access_file import AccessFile
from common.auth.principal import UnauthenticatedError
from common.contracts.tokens import Scope
from common.service_calls import ServiceCalls, open_service_calls
from common.settings import ServiceSettings
from tests.conftest import RunningUserService
from tests.factories import SANDBOX
from tests.fakes import FakeUserService, institution_access, key_access
from tests.raw_servers import answering, reply
from tests.servers import free_port, serving
from tests.waiting import PATIENCE_S, eventually

REVOKED = "ask_test_4567abcd_" + "s" * 43
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
        await eventually(calls.token_asked)
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
                client = await calls.client(base_url, timeout_s=PATIENCE_S)
                response = await client.get("/")
            was_closed = client.is_closed

        assert response.status_code == 200
        assert was_closed

    async def test_start_and_stop_while_user_service_is_away(self) -> None:
        settings = ServiceSettings(user_service_url=f"http://127.0.0.1:{free_port()}", _env_file=None)

        async with asyncio.timeout(PATIENCE_S), open_service_calls(settings, client_id="ai_service") as calls:
            loaded, known = await calls.keys_loaded(), await calls.access_known()

        assert (loaded, known) == (False, False)


class TestRestart:
    async def test_while_user_service_is_away_lets_in_whoever_was_let_in_and_nobody_else(
        self, tmp_path: Path
    ) -> None:
        fake = FakeUserService()
        good, revoked = (key_access(text, SANDBOX, key_id=f"key_{text[9:17]}") for text in (NEW, REVOKED))
        fake.access += [institution_access(SANDBOX), good, revoked]
        async with serving(fake.app) as url:
            settings = ServiceSettings(user_service_url=url, access_folder=tmp_path, _env_file=None)
            async with open_service_calls(settings, client_id="ai_service") as calls:
                await eventually(calls.access_known)
                await eventually(calls.keys_loaded)
                fake.access.append(revoked.model_copy(update={"revoked": True}))
                await calls.access_feed.poll()
                before = calls.access_feed.state.as_feed()()

        async with asyncio.timeout(PATIENCE_S), open_service_calls(settings, client_id="ai_service") as calls:
            by_token = await calls.verifier.verify(fake.user_token())
            by_key = await calls.verifier.verify_key(NEW.encode())
            with pytest.raises(UnauthenticatedError):
                await calls.verifier.verify_key(REVOKED.encode())
            after = calls.access_feed.state.as_feed()()
            await eventually(calls.token_asked)

        assert (by_token.subject, by_key.subject) == ("usr_test", good.key_id)
        assert after == before

    async def test_goes_on_reading_where_it_stopped(self, users: RunningUserService, tmp_path: Path) -> None:
        settings = ServiceSettings(user_service_url=users.url, access_folder=tmp_path, _env_file=None)
        users.fake.access.append(institution_access(SANDBOX))
        async with open_service_calls(settings, client_id="ai_service") as calls:
            await eventually(calls.access_known)
            await eventually(calls.keys_loaded)
        users.fake.access_asked_after.clear()
        users.fake.access.append(key_access(NEW, SANDBOX))

        async with open_service_calls(settings, client_id="ai_service") as calls:
            await eventually(calls.token_asked)
            await calls.access_feed.poll()
            holder = await calls.verifier.verify_key(NEW.encode())

        assert holder.session_id == "key_test"
        assert users.fake.access_asked_after[0] == 1
        assert 0 not in users.fake.access_asked_after

    async def test_of_another_service_is_no_concern_of_this_one(
        self, users: RunningUserService, tmp_path: Path
    ) -> None:
        settings = ServiceSettings(user_service_url=users.url, access_folder=tmp_path, _env_file=None)
        for client_id in ("ai_service", "log_service"):
            async with open_service_calls(settings, client_id=client_id) as calls:
                await eventually(calls.access_known)
                await eventually(calls.keys_loaded)

        source = f"assay at {users.url}"
        for client_id in ("ai_service", "log_service"):
            assert AccessFile(tmp_path / f"{client_id}.access", source=source).read() is not None

    async def test_is_saved_while_the_service_runs(self, users: RunningUserService, tmp_path: Path) -> None:
        settings = ServiceSettings(user_service_url=users.url, access_folder=tmp_path, _env_file=None)
        users.fake.access.append(key_access(NEW, SANDBOX))
        file = AccessFile(tmp_path / "ai_service.access", source=f"assay at {users.url}")

        async def is_kept() -> bool:
            kept = file.read()
            return kept is not None and kept.feed.version == len(users.fake.access)

        async with open_service_calls(settings, client_id="ai_service") as calls:
            await eventually(is_kept)
            users.fake.access.append(key_access(NEW, SANDBOX, revoked=True))
            await calls.access_feed.poll()

            assert await eventually(is_kept)


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
