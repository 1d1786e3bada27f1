import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from common.auth.access import AccessState
from common.auth.access_feed import AccessFeedClient
from common.auth.service_tokens import ServiceTokens
from common.background import running
from common.contracts.access import EndedSession
from common.contracts.tokens import Scope, ServiceTokenRequest
from common.http import service_client
from tests.conftest import RunningUserService
from tests.factories import SANDBOX
from tests.fakes import AccessChange, institution_access, key_access
from tests.raw_servers import answering, reply
from tests.waiting import PATIENCE_S, eventually

KEY = b"ask_test_0123abcd_secret"
CHANGES: list[AccessChange] = [
    institution_access(SANDBOX),
    key_access(KEY.decode(), SANDBOX, Scope.SCORE_WRITE),
]


def feed_client(client: httpx.AsyncClient, tokens: ServiceTokens) -> AccessFeedClient:
    return AccessFeedClient(client, tokens, AccessState(), poll_s=30)


@pytest.fixture
async def users_client(users: RunningUserService) -> AsyncIterator[httpx.AsyncClient]:
    async with service_client(users.url, timeout_s=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def tokens(users_client: httpx.AsyncClient) -> ServiceTokens:
    credentials = ServiceTokenRequest(client_id="ai_service", client_secret=SecretStr("secret"))
    tokens = ServiceTokens(users_client, credentials=credentials)
    await tokens.renew()
    return tokens


@pytest.fixture
def feed(users_client: httpx.AsyncClient, tokens: ServiceTokens) -> AccessFeedClient:
    return feed_client(users_client, tokens)


class TestPoll:
    async def test_learns_what_changed_and_later_what_changed_since(
        self, feed: AccessFeedClient, users: RunningUserService
    ) -> None:
        users.fake.access += CHANGES
        worked = await feed.poll()
        held = feed.state.holder_of(KEY)
        users.fake.access.append(key_access(KEY.decode(), SANDBOX, revoked=True))
        await feed.poll()

        assert worked
        assert held is not None
        assert feed.state.holder_of(KEY) is None
        assert feed.state.version == 3

    async def test_starts_over_in_the_same_poll_when_user_service_knows_less(
        self, feed: AccessFeedClient, users: RunningUserService
    ) -> None:
        users.fake.access += [*CHANGES, EndedSession(session_id="ses_1", until=2**40)]
        await feed.poll()
        del users.fake.access[1:]

        worked = await feed.poll()

        assert worked
        assert feed.state.version == 1
        assert feed.state.holder_of(KEY) is None
        assert feed.state.sizes()["ended_sessions"] == 0

    async def test_starts_over_in_the_same_poll_when_user_service_went_on_from_something_else(
        self, feed: AccessFeedClient, users: RunningUserService
    ) -> None:
        users.fake.access += CHANGES
        await feed.poll()
        users.fake.access[1:] = [EndedSession(session_id=name, until=2**40) for name in ("ses_1", "ses_2")]

        worked = await feed.poll()

        assert (worked, feed.state.version) == (True, 3)
        assert feed.state.holder_of(KEY) is None
        assert feed.state.sizes()["ended_sessions"] == 2

    async def test_learns_once_in_a_while_what_versions_do_not_tell(
        self, users_client: httpx.AsyncClient, tokens: ServiceTokens, users: RunningUserService
    ) -> None:
        feed = AccessFeedClient(users_client, tokens, AccessState(), poll_s=30, anew_s=0)
        users.fake.access += CHANGES
        await feed.poll()
        users.fake.access[0] = EndedSession(session_id="ses_1", until=2**40)

        await feed.poll()

        assert feed.state.holder_of(KEY) is None
        assert feed.state.sizes()["ended_sessions"] == 1

    async def test_that_fails_leaves_what_is_known(
        self, feed: AccessFeedClient, users: RunningUserService
    ) -> None:
        users.fake.access += CHANGES
        await feed.poll()
        users.fake.access_status = 503

        assert not await feed.poll()
        assert feed.state.holder_of(KEY) is not None

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"null", b'{"version": "x"}', b'{"after": 0, "version": -1}', b"[" * 1000]
    )
    async def test_of_something_that_is_no_feed_fails(self, tokens: ServiceTokens, body: bytes) -> None:
        async with (
            answering(reply(200, body=body)) as url,
            service_client(url, timeout_s=PATIENCE_S) as client,
        ):
            feed = feed_client(client, tokens)

            worked = await feed.poll()

        assert (worked, feed.state.loaded) == (False, False)

    async def test_that_is_refused_lets_another_token_be_fetched(
        self, users_client: httpx.AsyncClient, users: RunningUserService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.auth.service_tokens.MAX_RETRY_S", 0.0)
        credentials = ServiceTokenRequest(client_id="ai_service", client_secret=SecretStr("secret"))
        tokens = ServiceTokens(users_client, credentials=credentials)
        keeping = asyncio.create_task(tokens.keep_fresh())
        await tokens.wait()
        refused = tokens.header()
        users.fake.access_status = 401

        assert not await feed_client(users_client, tokens).poll()

        async def is_new() -> bool:
            return tokens.header() != refused

        await eventually(is_new)
        keeping.cancel()

    async def test_goes_on_by_itself_once_there_is_a_service_token(
        self, feed: AccessFeedClient, users: RunningUserService
    ) -> None:
        users.fake.access += CHANGES
        polling = asyncio.create_task(feed.keep_fresh())

        async def is_known() -> bool:
            return feed.state.loaded

        await eventually(is_known)
        polling.cancel()

        assert feed.state.holder_of(KEY) is not None


class TestTellUses:
    async def test_however_slow_that_is_no_poll_waits_for_it(
        self, users_client: httpx.AsyncClient, users: RunningUserService
    ) -> None:
        never = asyncio.Event()
        asked = asyncio.Event()

        async def forward(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/key-uses"):
                asked.set()
                await never.wait()
            return await users_client.request(
                request.method, request.url, content=request.content, headers=request.headers
            )

        credentials = ServiceTokenRequest(client_id="ai_service", client_secret=SecretStr("secret"))
        async with httpx.AsyncClient(transport=httpx.MockTransport(forward), base_url=users.url) as client:
            tokens = ServiceTokens(client, credentials=credentials)
            await tokens.renew()
            feed = AccessFeedClient(client, tokens, AccessState(), poll_s=0.01)
            feed.state.put_back({"key_test": 7})
            async with running(feed.keep_fresh, feed.keep_telling):
                await asyncio.wait_for(asked.wait(), 10)
                before = users.fake.access_asked

                async def goes_on() -> bool:
                    return users.fake.access_asked > before + 2

                await eventually(goes_on)

    async def test_tells_each_use_once(self, feed: AccessFeedClient, users: RunningUserService) -> None:
        users.fake.access += CHANGES
        await feed.poll()
        feed.state.holder_of(KEY)

        told = await feed.tell_uses()
        users_told, users.fake.key_uses = users.fake.key_uses, {}
        await feed.tell_uses()

        assert told
        assert set(users_told) == {"key_test"}
        assert users.fake.key_uses == {}

    async def test_tells_many_in_several_calls(
        self, feed: AccessFeedClient, users: RunningUserService
    ) -> None:
        feed.state.put_back({f"key_{number}": number for number in range(1201)})

        assert await feed.tell_uses()
        assert users.fake.key_uses == {f"key_{number}": number for number in range(1201)}

    async def test_keeps_those_that_could_not_be_told(self, tokens: ServiceTokens) -> None:
        async with answering(reply(503)) as url, service_client(url, timeout_s=PATIENCE_S) as client:
            feed = feed_client(client, tokens)
            feed.state.put_back({"key_test": 7})

            told = await feed.tell_uses()

        assert not told
        assert feed.state.take_uses() == {"key_test": 7}
