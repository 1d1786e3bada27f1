"""What a service knows of who may get in, left in a real Valkey for its processes that start without user_service."""

import asyncio
import time
from collections.abc import AsyncIterator
from math import inf

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from common.auth.access import AccessState
from common.auth.access_file import AccessFileRefusedError, KeptAccess
from common.auth.access_keeper import AccessKeeper
from common.auth.access_sharing import KEPT_S, SharedAccess
from common.auth.keys import PublicKeys
from common.auth.signing import public_jwk
from common.clock import epoch_ms
from common.contracts.access import ANNOUNCEMENTS
from common.contracts.tokens import Scope
from common.service_calls import open_service_calls
from common.settings import ServiceSettings
from common.valkey.calls import ValkeyCalls, open_shared, open_valkey
from tests.conftest import RunningUserService
from tests.factories import SANDBOX
from tests.fakes import AccessChange, access_feed, institution_access, key_access, shared_key
from tests.servers import free_port
from tests.valkey import ValkeyServer
from tests.waiting import PATIENCE_S, eventually

KEY = b"ask_test_0123abcd_good"
NEW = b"ask_test_4567abcd_new"
OURS = "a-secret-of-ours-for-tests-only-0123456789"
KNOWN: list[AccessChange] = [
    institution_access(SANDBOX),
    key_access(KEY.decode(), SANDBOX, Scope.SCORE_WRITE, key_id="key_good"),
]
PLACE = "assay:access:ai_service"


class Known:
    """What one process of a service knows, and what it shares."""

    def __init__(self, calls: ValkeyCalls, *, client_id: str = "ai_service", secret: str = OURS) -> None:
        self.state = AccessState()
        self.keys = PublicKeys(
            httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://users.test")
        )
        self.shared = SharedAccess(
            calls,
            self.state,
            self.keys,
            client_id=client_id,
            source="assay at http://users.test",
            secret=SecretStr(secret),
        )
        self.keeper = AccessKeeper(None, self.state, self.keys, shared=self.shared)

    async def hear(self, changes: list[AccessChange], *, seconds_ago: float = 0) -> None:
        await self.keys.refresh()
        self.state.apply(access_feed(changes), as_of=time.monotonic() - seconds_ago, now=epoch_ms() // 1000)

    def _answer(self, _request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": [public_jwk(shared_key())]})


@pytest.fixture
async def calls(valkey_url: str) -> AsyncIterator[ValkeyCalls]:
    async with open_valkey(SecretStr(valkey_url), timeout_s=PATIENCE_S) as opened:
        yield opened


@pytest.fixture
async def known(calls: ValkeyCalls) -> Known:
    known = Known(calls)
    await known.hear(KNOWN)
    return known


class TestANewProcess:
    async def test_knows_what_the_others_knew(self, calls: ValkeyCalls, known: Known) -> None:
        assert await known.shared.save()

        new = Known(calls)
        await new.keeper.load()

        assert new.state.as_feed()() == known.state.as_feed()()
        assert new.state.holder_of(KEY) is not None
        assert (new.state.is_stale, new.keys.loaded) == (False, True)
        assert new.keys.as_key_set() == known.keys.as_key_set()

    async def test_knows_when_it_was_confirmed_since(
        self, calls: ValkeyCalls, known: Known, valkey_server: ValkeyServer
    ) -> None:
        await known.hear(KNOWN, seconds_ago=50)
        await known.shared.save()
        await known.hear(KNOWN, seconds_ago=3)
        with valkey_server.client() as client:
            before = client.hget(PLACE, "state")
            await known.shared.save()
            after = client.hget(PLACE, "state")

        new = Known(calls)
        await new.keeper.load()

        assert before == after  # the state itself is not written again for that
        assert 3 <= new.state.age_s < 20

    async def test_takes_what_is_old_for_as_old_as_it_is(self, calls: ValkeyCalls, known: Known) -> None:
        await known.hear(KNOWN, seconds_ago=300)
        await known.shared.save()

        new = Known(calls)
        await new.keeper.load()

        assert new.state.is_stale
        assert new.state.holder_of(KEY) is not None

    async def test_takes_nothing_that_is_older_than_a_day_or_of_the_future(
        self, calls: ValkeyCalls, known: Known
    ) -> None:
        for seconds_ago in (KEPT_S, -60):
            await known.hear(KNOWN, seconds_ago=seconds_ago)
            await known.shared.save()
            new = Known(calls)

            await new.keeper.load()

            assert (new.state.loaded, new.state.age_s) == (False, inf)

    async def test_knows_what_its_file_says_where_that_was_confirmed_later(
        self, calls: ValkeyCalls, known: Known
    ) -> None:
        await known.shared.save()
        later = Known(calls)
        await later.hear([*KNOWN, key_access(NEW.decode(), SANDBOX, key_id="key_new")])

        await later.keeper.load()

        assert later.state.version == 3

    async def test_starts_where_valkey_is_away(self, known: Known) -> None:
        async with open_valkey(SecretStr(f"valkey://127.0.0.1:{free_port()}"), timeout_s=0.2) as away:
            new = Known(away)
            async with asyncio.timeout(10):
                await new.keeper.load()

        assert not new.state.loaded


class TestWhoeverCanWriteThere:
    async def read(self, calls: ValkeyCalls, **how: str) -> KeptAccess | None:
        return await Known(calls, **how).shared.read()

    async def test_without_the_secret_says_nothing_that_is_believed(
        self, calls: ValkeyCalls, known: Known
    ) -> None:
        stranger = Known(calls, secret="a-guess-at-the-secret-0123456789abcdef")
        await stranger.hear(KNOWN)
        await stranger.shared.save()
        new = Known(calls)

        with capture_logs() as lines:
            await new.keeper.load()

        assert not new.state.loaded
        assert [(line["event"], line["reason"]) for line in lines] == [
            ("access.file_ignored", "its seal is not ours")
        ]
        assert known.state.loaded

    async def test_cannot_pass_off_what_another_service_knows(
        self, calls: ValkeyCalls, valkey_server: ValkeyServer
    ) -> None:
        other = Known(calls, client_id="log_service")
        await other.hear(KNOWN)
        await other.shared.save()
        with valkey_server.client() as client:
            client.copy("assay:access:log_service", PLACE)

        with pytest.raises(AccessFileRefusedError):
            await self.read(calls)

    async def test_cannot_change_a_bit_of_it(
        self, calls: ValkeyCalls, known: Known, valkey_server: ValkeyServer
    ) -> None:
        for name in ("state", "times"):
            await known.shared.save()
            with valkey_server.client() as client:
                sealed = bytearray(client.hget(PLACE, name))
                sealed[len(sealed) // 2] ^= 1
                client.hset(PLACE, name, bytes(sealed))

            with pytest.raises(AccessFileRefusedError):
                await self.read(calls)
            with valkey_server.client() as client:
                client.delete(PLACE)

    async def test_cannot_make_an_old_state_young_with_the_times_of_another(
        self, calls: ValkeyCalls, known: Known, valkey_server: ValkeyServer
    ) -> None:
        await known.hear(KNOWN, seconds_ago=300)
        await known.shared.save()
        with valkey_server.client() as client:
            old = client.hget(PLACE, "state")
            await known.hear([*KNOWN, key_access(KEY.decode(), SANDBOX, key_id="key_good", revoked=True)])
            await known.shared.save()
            client.hset(PLACE, "state", old)
        new = Known(calls)

        await new.keeper.load()

        assert new.state.is_stale

    async def test_reads_nothing_of_it(self, known: Known, valkey_server: ValkeyServer) -> None:
        await known.shared.save()

        with valkey_server.client() as client:
            kept = b"".join(client.hgetall(PLACE).values())
        assert SANDBOX.institution_id.encode() not in kept
        assert b"key_good" not in kept


class TestServices:
    def settings(self, users_url: str, valkey_url: str, secret: str = OURS) -> ServiceSettings:
        return ServiceSettings(
            user_service_url=users_url,
            access_poll_s=30,
            access_folder=None,
            service_client_secret=SecretStr(secret),
            valkey_url=SecretStr(valkey_url),
            valkey_timeout_ms=2000,
            _env_file=None,
        )

    async def test_look_at_once_when_a_change_is_announced(
        self, users: RunningUserService, valkey_url: str, calls: ValkeyCalls
    ) -> None:
        settings = self.settings(users.url, valkey_url)
        async with (
            open_shared(settings) as valkey,
            open_service_calls(settings, client_id="ai_service", valkey=valkey) as service,
        ):
            await eventually(service.access_known)
            state = service.access_feed.state
            await _until_heard(calls)
            users.fake.access += KNOWN
            await calls.messages.publish(ANNOUNCEMENTS, b"changed")

            async def is_known() -> bool:
                return state.holder_of(KEY) is not None

            assert await eventually(is_known, timeout_s=10)  # polling takes 30

    async def test_start_with_what_another_process_shared_while_user_service_is_away(
        self, users: RunningUserService, valkey_url: str, calls: ValkeyCalls
    ) -> None:
        users.fake.access += KNOWN
        settings = self.settings(users.url, valkey_url)
        async with (
            open_shared(settings) as valkey,
            open_service_calls(settings, client_id="ai_service", valkey=valkey) as first,
        ):

            async def is_shared() -> bool:
                return bool(await calls.call("EXISTS", PLACE)) and first.keys.loaded

            await eventually(is_shared)
        users.fake.access_status = 503

        async with (
            open_shared(settings) as valkey,
            open_service_calls(settings, client_id="ai_service", valkey=valkey) as second,
        ):
            assert await second.access_known()
            assert second.verifier.holder_of(KEY) is not None

    async def test_share_nothing_under_a_secret_that_everybody_knows(
        self, users: RunningUserService, valkey_url: str, calls: ValkeyCalls
    ) -> None:
        settings = self.settings(users.url, valkey_url, secret="change-me")
        async with (
            open_shared(settings) as valkey,
            open_service_calls(settings, client_id="ai_service", valkey=valkey) as service,
        ):
            await eventually(service.access_known)
            await asyncio.sleep(2.5)

        assert not await calls.call("EXISTS", PLACE)


async def _until_heard(calls: ValkeyCalls) -> None:
    async def is_heard() -> bool:
        (_, count) = await calls.call("PUBSUB", "NUMSUB", ANNOUNCEMENTS)
        return bool(count)

    await eventually(is_heard)
    await asyncio.sleep(1)  # what it looked at because it may have missed something
