import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import pytest

from common.auth.gate import Expected
from common.auth.keys import (
    KEYS_AGE,
    MAX_AGE_S,
    MAX_KEYS,
    UNKNOWN_KEY_FETCH_S,
    PublicKeys,
    TokenVerifier,
)
from common.auth.principal import UnauthenticatedError
from common.auth.signing import public_jwk
from common.clock import epoch_ms
from common.contracts.tokens import Scope
from common.errors import UnavailableError
from tests.fakes import FakeUserService, new_key, shared_key
from tests.waiting import PATIENCE_S

EXPECTED = Expected(issuer="assay", audience="assay")


class KeyServer:
    """Publishes whatever it is told to, and counts how often it is asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = key_set(public_jwk(shared_key()))
        self.away = False
        self.silent = False
        self.asked = 0
        self.now = 1000.0

    def clock(self) -> float:
        """Return the time of those who keep the keys; it passes only when told to."""
        return self.now

    async def answer(self, _request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.away:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(self.status, content=self.body)


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.fixture
def server() -> KeyServer:
    return KeyServer()


@pytest.fixture
async def keys(server: KeyServer) -> AsyncIterator[PublicKeys]:
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(server.answer), base_url="http://users.test"
    ) as client:
        yield PublicKeys(client, clock=server.clock)


class TestRefresh:
    async def test_makes_the_published_keys_known(self, keys: PublicKeys) -> None:
        assert not keys.loaded

        assert await keys.refresh()

        assert keys.loaded
        assert (await keys.find(shared_key().kid))["n"] == public_jwk(shared_key())["n"]

    async def test_takes_a_new_key_and_forgets_a_retired_one(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        await keys.refresh()
        rotated = new_key()
        server.body = key_set(public_jwk(rotated))

        await keys.refresh()

        assert await keys.find(rotated.kid)
        with pytest.raises(UnauthenticatedError):
            await keys.find(shared_key().kid)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"null",
            b"[]",
            b'"keys"',
            b"{}",
            b'{"keys": null}',
            b'{"keys": {}}',
            b'{"keys": []}',
            b'{"keys": [1, null, "x", []]}',
            b'{"keys": [{}]}',
            b"[" * 100_000,
            b"\xff\xfe",
            key_set({"kid": "k", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "n": "AQAB", "e": "AQAB"}),
            key_set({"kid": "k", "kty": "RSA", "n": "!!!", "e": "AQAB", "alg": "RS256"}),
            key_set({"kid": "k", "kty": "RSA", "n": "", "e": "", "alg": "RS256"}),
            key_set({"kid": "k", "kty": "RSA", "n": 5, "e": "AQAB", "alg": "RS256"}),
            key_set({**public_jwk(shared_key()), "kid": ["k"]}),
            key_set({**public_jwk(shared_key()), "alg": "RS512"}),
            key_set(*[{**public_jwk(shared_key()), "kid": f"k{number}"} for number in range(MAX_KEYS + 1)]),
        ],
    )
    async def test_an_empty_or_odd_set_leaves_the_old_one_in_place(
        self, keys: PublicKeys, server: KeyServer, body: bytes
    ) -> None:
        await keys.refresh()
        server.body = body

        assert not await keys.refresh()

        assert await keys.find(shared_key().kid)

    async def test_a_key_that_cannot_be_used_does_not_spoil_the_others(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        server.body = key_set({"kid": "odd", "kty": "EC"}, public_jwk(shared_key()))

        assert await keys.refresh()

        assert await keys.find(shared_key().kid)
        with pytest.raises(UnauthenticatedError):
            await keys.find("odd")

    @pytest.mark.parametrize(
        "fail", [lambda s: setattr(s, "away", True), lambda s: setattr(s, "status", 503)]
    )
    async def test_a_failed_fetch_leaves_the_old_set_in_place(
        self, keys: PublicKeys, server: KeyServer, fail: Callable[[KeyServer], None]
    ) -> None:
        await keys.refresh()
        fail(server)

        assert not await keys.refresh()

        assert keys.loaded
        assert await keys.find(shared_key().kid)


class TestAge:
    async def test_keys_are_good_for_a_day_while_they_cannot_be_fetched_anew(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        await keys.refresh()
        server.away = True

        server.now += MAX_AGE_S - 1
        await keys.refresh()

        assert keys.loaded
        assert await keys.find(shared_key().kid)

    async def test_after_a_day_nobody_can_tell_any_more(self, keys: PublicKeys, server: KeyServer) -> None:
        await keys.refresh()
        server.away = True

        server.now += MAX_AGE_S + 1

        assert not keys.loaded
        with pytest.raises(UnavailableError):
            await keys.find(shared_key().kid)

    async def test_the_next_fetch_makes_them_good_again(self, keys: PublicKeys, server: KeyServer) -> None:
        await keys.refresh()
        server.now += MAX_AGE_S + 1

        await keys.refresh()

        assert await keys.find(shared_key().kid)

    async def test_their_age_is_measured(self, keys: PublicKeys, server: KeyServer) -> None:
        await keys.refresh()
        server.away = True
        server.now += 300

        await keys.refresh()

        assert KEYS_AGE._value.get() == 300


class TestFind:
    async def test_an_unknown_key_is_fetched_for_once(self, keys: PublicKeys, server: KeyServer) -> None:
        assert await keys.find(shared_key().kid)
        assert server.asked == 1

    async def test_unknown_keys_cost_at_most_one_fetch_a_minute_whoever_asks(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        await keys.refresh()

        results = await asyncio.gather(*(keys.find(f"k{n}") for n in range(50)), return_exceptions=True)

        assert {type(result) for result in results} == {UnauthenticatedError}
        assert server.asked == 2

    async def test_a_minute_later_it_is_asked_for_once_more(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        asked = []
        for _ in range(3):
            for _ in range(5):
                with pytest.raises(UnauthenticatedError):
                    await keys.find("unknown")
            asked.append(server.asked)
            server.now += UNKNOWN_KEY_FETCH_S

        assert asked == [1, 2, 3]

    async def test_those_who_bring_a_new_key_together_are_all_let_in(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        await keys.refresh()
        rotated = new_key()
        server.body = key_set(public_jwk(rotated))

        found = await asyncio.gather(*(keys.find(rotated.kid) for _ in range(20)))

        assert {key["n"] for key in found} == {public_jwk(rotated)["n"]}
        assert server.asked == 2

    async def test_while_user_service_is_silent_known_keys_are_found_and_unknown_ones_refused_soon(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        await keys.refresh()
        server.silent = True

        with pytest.raises(UnauthenticatedError):
            await keys.find("unknown")

        assert await keys.find(shared_key().kid)

    async def test_one_who_goes_away_leaves_the_fetch_to_the_others(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        impatient = asyncio.create_task(keys.find(shared_key().kid))
        patient = asyncio.create_task(keys.find(shared_key().kid))
        await asyncio.sleep(0)
        impatient.cancel()

        assert await patient
        assert server.asked == 1

    async def test_known_keys_cost_none(self, keys: PublicKeys, server: KeyServer) -> None:
        await keys.refresh()

        for _ in range(10):
            await keys.find(shared_key().kid)

        assert server.asked == 1

    async def test_while_no_key_was_ever_known_says_that_it_cannot_tell(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        server.away = True

        with pytest.raises(UnavailableError):
            await keys.find("k")


class TestKeepFresh:
    async def test_tries_again_soon_until_the_first_success(
        self, keys: PublicKeys, server: KeyServer
    ) -> None:
        server.away = True
        task = asyncio.create_task(keys.keep_fresh())
        async with asyncio.timeout(10):
            while not server.asked:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0)
            server.away = False
            while not keys.loaded:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        task.cancel()

        assert server.asked == 2

    async def test_no_fetch_goes_on_once_it_was_stopped(self, keys: PublicKeys, server: KeyServer) -> None:
        server.silent = True
        before = asyncio.all_tasks()
        task = asyncio.create_task(keys.keep_fresh())
        async with asyncio.timeout(10):
            while not server.asked:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0)

        task.cancel()
        left = asyncio.all_tasks() - before
        await asyncio.wait(left, timeout=PATIENCE_S)

        assert all(each.done() for each in left)


class CountingKeys:
    """One key, and how often it was asked for."""

    def __init__(self, key: Mapping[str, str]) -> None:
        self.key = key
        self.asked = 0

    async def find(self, _kid: str) -> Mapping[str, str]:
        self.asked += 1
        return self.key

    def has(self, kid: str) -> bool:
        return kid == self.key["kid"]


@pytest.fixture
def source() -> CountingKeys:
    return CountingKeys(public_jwk(shared_key()))


@pytest.fixture
def issuer() -> FakeUserService:
    return FakeUserService()


class TestTokenVerifier:
    async def test_remembers_a_token_it_has_verified(
        self, source: CountingKeys, issuer: FakeUserService
    ) -> None:
        verifier = TokenVerifier(source, expected=EXPECTED)
        token = issuer.user_token()

        first = await verifier.verify(token)
        again = await verifier.verify(token)

        assert again is first
        assert source.asked == 1

    async def test_remembers_no_token_it_refused(self, source: CountingKeys) -> None:
        verifier = TokenVerifier(source, expected=EXPECTED)
        token = FakeUserService(new_key()).user_token()
        for _ in range(2):
            with pytest.raises(UnauthenticatedError):
                await verifier.verify(token)

        assert source.asked == 2

    async def test_forgets_a_token_when_it_expires(
        self, source: CountingKeys, issuer: FakeUserService
    ) -> None:
        verifier = TokenVerifier(source, expected=EXPECTED)
        now = epoch_ms() // 1000
        token = issuer.user_token(exp=now + 2)
        await verifier.verify(token)
        async with asyncio.timeout(10):
            while epoch_ms() // 1000 < now + 2:  # noqa: ASYNC110 - the clock is what is waited for
                await asyncio.sleep(0.02)

        for _ in range(2):
            with pytest.raises(UnauthenticatedError):
                await verifier.verify(token)

    async def test_forgets_a_token_when_its_key_is_retired(
        self, source: CountingKeys, issuer: FakeUserService
    ) -> None:
        verifier = TokenVerifier(source, expected=EXPECTED)
        token = issuer.user_token()
        await verifier.verify(token)
        source.key = public_jwk(new_key())

        assert verifier.remembered(token) is None
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(token)

    async def test_remembers_a_limited_number_the_oldest_being_forgotten(
        self, source: CountingKeys, issuer: FakeUserService
    ) -> None:
        verifier = TokenVerifier(source, expected=EXPECTED, max_remembered=3)
        tokens = [issuer.service_token(Scope.AUDIT_WRITE) for _ in range(5)]
        for token in tokens:
            await verifier.verify(token)
        asked = source.asked

        await verifier.verify(tokens[-1])
        asked_for_newest = source.asked - asked
        await verifier.verify(tokens[0])

        assert (asked_for_newest, source.asked - asked) == (0, 1)
