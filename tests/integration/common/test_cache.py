"""The cache of looked-up values: alone in one process, and of several over a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from common.cache.caching import CHANNEL, Cache, Caches, open_caches
from common.cache.namespaces import AsBytes, AsModel, Forgotten, Namespace
from common.contracts.fields import Contract
from common.valkey.calls import ValkeyCalls, open_valkey
from tests.unit.common.rate_limits.clocks import Clock
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import PATIENCE_S, eventually


class Profile(Contract):
    """What is looked up in these tests."""

    name: str
    visits: int = 0


PROFILES = Namespace(name="test_profiles", codec=AsModel(Profile), ttl_s=60, max_items=3, missing_s=5)
TEXTS = Namespace(name="test_texts", codec=AsBytes(), ttl_s=60, max_items=10, max_bytes=100)


class Source:
    """Where values come from; it counts how often it was asked, and may be made to wait."""

    def __init__(self, value: Profile | None = None) -> None:
        self.value = value
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> Profile | None:
        self.asked += 1
        value = self.value
        await self.gate.wait()
        return value


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, {"namespace": PROFILES.name, **labels}) or 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def alone(clock: Clock) -> Cache[Profile]:
    return Cache(PROFILES, None, clock=clock)


class TestInOneProcess:
    async def test_a_value_is_looked_up_once(self, alone: Cache[Profile]) -> None:
        source, hits = Source(Profile(name="Ada")), counted("assay_cache_hits_total", tier="process")

        found = [await alone.get("a", source.load) for _ in range(5)]

        assert found == [Profile(name="Ada")] * 5
        assert source.asked == 1
        assert counted("assay_cache_hits_total", tier="process") - hits == 4
        assert counted("assay_cache_items") == 1

    async def test_however_many_ask_at_once(self, alone: Cache[Profile]) -> None:
        source, misses = Source(Profile(name="Ada")), counted("assay_cache_misses_total")

        found = await asyncio.gather(*(alone.get("a", source.load) for _ in range(50)))

        assert found == [Profile(name="Ada")] * 50
        assert source.asked == 1
        assert counted("assay_cache_misses_total") - misses == 1

    async def test_that_there_is_nothing_is_remembered_too_for_a_while(
        self, alone: Cache[Profile], clock: Clock
    ) -> None:
        source = Source(None)
        assert [await alone.get("a", source.load) for _ in range(3)] == [None] * 3
        assert source.asked == 1

        clock.now += 5
        source.value = Profile(name="Ada")

        assert await alone.get("a", source.load) == Profile(name="Ada")

    async def test_it_is_looked_up_again_when_its_time_is_over(
        self, alone: Cache[Profile], clock: Clock
    ) -> None:
        source = Source(Profile(name="Ada"))
        await alone.get("a", source.load)
        clock.now += 60

        await alone.get("a", source.load)

        assert source.asked == 2

    async def test_there_are_never_more_than_was_declared(self, alone: Cache[Profile]) -> None:
        source = Source(Profile(name="Ada"))
        for number in range(20):
            await alone.get(f"{number}", source.load)

        assert counted("assay_cache_items") == 3
        assert alone.peek("19") == (Profile(name="Ada"),)
        assert alone.peek("16") is None

    async def test_a_look_up_that_fails_is_not_remembered(self, alone: Cache[Profile]) -> None:
        async def fails() -> Profile:
            raise ConnectionError

        for _ in range(2):
            with pytest.raises(ConnectionError):
                await alone.get("a", fails)

        assert await alone.get("a", Source(Profile(name="Ada")).load) == Profile(name="Ada")

    async def test_one_who_goes_away_takes_nothing_from_the_others(self, alone: Cache[Profile]) -> None:
        source = Source(Profile(name="Ada"))
        source.gate.clear()
        asking = [asyncio.create_task(alone.get("a", source.load)) for _ in range(3)]
        await asyncio.sleep(0)

        asking[0].cancel()
        source.gate.set()
        found = await asyncio.gather(*asking[1:])

        assert found == [Profile(name="Ada")] * 2
        assert source.asked == 1

    async def test_what_was_looked_up_before_it_was_invalidated_is_not_kept(
        self, alone: Cache[Profile]
    ) -> None:
        source = Source(Profile(name="old"))
        source.gate.clear()
        asking = asyncio.create_task(alone.get("a", source.load))
        await asyncio.sleep(0.01)

        source.value = Profile(name="new")
        await alone.invalidate("a")
        source.gate.set()
        await asking

        assert await alone.get("a", source.load) == Profile(name="new")

    async def test_values_of_one_institution_are_not_found_under_another(self, alone: Cache[Profile]) -> None:
        await alone.put("a", Profile(name="Ada"), institution_id="ins_a")

        assert alone.peek("a", institution_id="ins_a") is not None
        assert alone.peek("a", institution_id="ins_b") is None
        assert alone.peek("a") is None


class Process:
    """What one process has: connections of its own, and caches that hear."""

    def __init__(self, calls: ValkeyCalls, caches: Caches) -> None:
        self.calls = calls
        self.profiles = caches.of(PROFILES)
        self.texts = caches.of(TEXTS)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def process(stack: AsyncExitStack, url: str) -> Process:
    calls = await stack.enter_async_context(open_valkey(SecretStr(url), timeout_s=PATIENCE_S))
    caches = await stack.enter_async_context(open_caches(calls))
    made = Process(calls, caches)
    await _until_it_hears(made)
    return made


async def _until_it_hears(process: Process) -> None:
    """Wait until what the process heard first, that it may have missed something, is behind it."""
    await process.texts.put("sign", b"too long for Valkey" * 10)
    told = Forgotten(namespace=TEXTS.name, place=process.texts._place("sign", "")).model_dump_json().encode()

    async def hears() -> bool:
        await process.calls.messages.publish(CHANNEL, told)
        return process.texts.peek("sign") is None

    await eventually(hears)


class TestOverValkey:
    async def test_what_one_process_looked_up_the_others_find(
        self, stack: AsyncExitStack, valkey_url: str
    ) -> None:
        first, second = await process(stack, valkey_url), await process(stack, valkey_url)
        source, hits = Source(Profile(name="Ada", visits=3)), counted("assay_cache_hits_total", tier="valkey")
        await first.profiles.get("a", source.load, institution_id="ins_a")

        found = await second.profiles.get("a", source.load, institution_id="ins_a")

        assert found == Profile(name="Ada", visits=3)
        assert source.asked == 1
        assert counted("assay_cache_hits_total", tier="valkey") - hits == 1

    async def test_that_there_is_nothing_too(self, stack: AsyncExitStack, valkey_url: str) -> None:
        first, second = await process(stack, valkey_url), await process(stack, valkey_url)
        source = Source(None)

        assert await first.profiles.get("a", source.load) is None
        assert await second.profiles.get("a", source.load) is None
        assert source.asked == 1

    async def test_an_invalidated_value_is_gone_in_every_process(
        self, stack: AsyncExitStack, valkey_url: str
    ) -> None:
        first, second = await process(stack, valkey_url), await process(stack, valkey_url)
        source = Source(Profile(name="old"))
        for each in (first, second):
            await each.profiles.get("a", source.load)
        source.value = Profile(name="new")

        assert await first.profiles.invalidate("a")

        async def is_gone() -> bool:
            return second.profiles.peek("a") is None

        await eventually(is_gone, timeout_s=PATIENCE_S)
        assert await second.profiles.get("a", source.load) == Profile(name="new")
        assert await first.profiles.get("a", source.load) == Profile(name="new")

    async def test_a_look_up_that_began_before_puts_nothing_old_back_for_anybody(
        self, stack: AsyncExitStack, valkey_url: str
    ) -> None:
        first = await process(stack, valkey_url)
        deaf = Cache(PROFILES, first.calls)  # the message has not reached it yet
        source = Source(Profile(name="old"))
        source.gate.clear()
        asking = asyncio.create_task(deaf.get("a", source.load))

        async def is_asked() -> bool:
            return source.asked == 1

        await eventually(is_asked)
        source.value = Profile(name="new")
        await first.profiles.invalidate("a")
        source.gate.set()
        await asking

        third = await process(stack, valkey_url)
        assert await third.profiles.get("a", source.load) == Profile(name="new")

    async def test_nothing_is_kept_longer_because_it_came_by_another_process(
        self, stack: AsyncExitStack, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        first, second = await process(stack, valkey_url), await process(stack, valkey_url)
        source = Source(Profile(name="Ada"))
        await first.profiles.get("a", source.load)
        with valkey_server.client() as client:
            (key,) = client.keys("assay:*")
            client.pexpire(key, 60)

        await second.profiles.get("a", source.load)
        await asyncio.sleep(0.07)

        await second.profiles.get("a", source.load)
        assert source.asked == 2

    async def test_values_are_not_named_in_plain_text_and_go_away_by_themselves(
        self, stack: AsyncExitStack, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        one = await process(stack, valkey_url)
        await one.profiles.get("customer-of-ours", Source(Profile(name="A")).load, institution_id="ins_a")

        with valkey_server.client() as client:
            (key,) = client.keys("*")
            left_ms = client.pttl(key)

        assert key.startswith(b"assay:{ins_a}:cache:test_profiles:")
        assert b"customer" not in key
        assert 0 < left_ms <= 60_000

    async def test_what_cannot_be_read_is_looked_up(
        self, stack: AsyncExitStack, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        first, second = await process(stack, valkey_url), await process(stack, valkey_url)
        source = Source(Profile(name="Ada"))
        await first.profiles.get("a", source.load)
        with valkey_server.client() as client:
            client.set(client.keys("*")[0], b'+{"name": 1, "more": 2}')

        assert await second.profiles.get("a", source.load) == Profile(name="Ada")

    async def test_what_is_longer_than_was_declared_stays_in_the_process(
        self, stack: AsyncExitStack, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        one = await process(stack, valkey_url)

        assert not await one.texts.put("long", b"x" * 101)
        assert await one.texts.put("short", b"x" * 10)

        assert one.texts.peek("long") == (b"x" * 101,)
        with valkey_server.client() as client:
            assert len(client.keys("*")) == 1


class TestWhileValkeyIsAway:
    async def test_the_process_has_its_own_tier(self, stack: AsyncExitStack) -> None:
        with running_valkey() as server:
            one = await process(stack, server.url)
            server.process.kill()
            server.process.wait(10)
        source = Source(Profile(name="Ada"))

        found = [await one.profiles.get("a", source.load) for _ in range(3)]

        assert found == [Profile(name="Ada")] * 3
        assert source.asked == 1
        assert not await one.profiles.invalidate("a")
        assert one.profiles.peek("a") is None

    async def test_what_may_have_been_missed_meanwhile_is_forgotten(self, stack: AsyncExitStack) -> None:
        with running_valkey() as server:
            port = server.port
            one = await process(stack, server.url)
            await one.profiles.put("a", Profile(name="old"))
            server.process.kill()
            server.process.wait(10)
        assert one.profiles.peek("a") is not None

        with running_valkey(port=port):

            async def is_forgotten() -> bool:
                return one.profiles.peek("a") is None

            await eventually(is_forgotten)
