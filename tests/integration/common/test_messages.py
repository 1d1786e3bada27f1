"""Messages between processes over a real Valkey."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from common.valkey.calls import ValkeyCalls, open_valkey
from common.valkey.messages import MAX_WAITING, MISSED, Subscription
from tests.valkey import running_valkey
from tests.waiting import PATIENCE_S, eventually


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[ValkeyCalls, ValkeyCalls]]:
    async with (
        open_valkey(SecretStr(url), timeout_s=5) as first,
        open_valkey(SecretStr(url), timeout_s=5) as second,
        asyncio.timeout(PATIENCE_S),
    ):
        yield first, second


async def heard(subscription: Subscription, count: int) -> list[object]:
    return [await anext(subscription) for _ in range(count)]


class TestMessages:
    async def test_reach_everybody_who_listens_in_their_order(self, valkey_url: str) -> None:
        async with two(valkey_url) as (here, there):
            listening = [calls.messages.subscribe("news") for calls in (here, there, there)]
            for subscription in listening:
                assert await anext(subscription) is MISSED

            for number in range(5):
                assert await here.messages.publish("news", b"%d" % number)

            for subscription in listening:
                assert await heard(subscription, 5) == [b"0", b"1", b"2", b"3", b"4"]

    async def test_are_heard_on_channels_that_are_added_and_no_more_on_those_that_are_left(
        self, valkey_url: str
    ) -> None:
        async with two(valkey_url) as (here, there):
            first = there.messages.subscribe("first")
            await anext(first)
            second = there.messages.subscribe("second")
            await anext(second)
            there.messages.unsubscribe(first)

            await here.messages.publish("first", b"a")
            await here.messages.publish("second", b"b")

            assert await anext(second) == b"b"
            assert first.waiting == 0

    async def test_that_are_not_read_in_time_are_counted_and_said_to_be_missed(self, valkey_url: str) -> None:
        async with two(valkey_url) as (here, there):
            slow = there.messages.subscribe("slow")
            await anext(slow)

            await asyncio.gather(*(here.messages.publish("slow", b"x") for _ in range(MAX_WAITING + 10)))
            last = there.messages.subscribe("last")
            await here.messages.publish("last", b"y")  # one connection: all that came before it was heard
            while await anext(last) is MISSED:
                pass

            assert await anext(slow) is MISSED
            assert slow.waiting <= 10
        dropped = REGISTRY.get_sample_value("assay_messages_dropped_total", {"channel": "slow"})
        assert dropped == MAX_WAITING

    async def test_go_on_when_valkey_was_away_and_say_that_some_may_be_missed(self) -> None:
        with running_valkey() as server:
            async with two(server.url) as (_, there):
                subscription = there.messages.subscribe("news")
                await anext(subscription)
                server.process.kill()
                server.process.wait(10)
                with running_valkey(port=server.port) as again:
                    assert await anext(subscription) is MISSED
                    with again.client() as client:
                        client.publish("news", "hello")
                    assert await anext(subscription) == b"hello"

    async def test_that_nobody_can_be_told_are_not_an_error(self) -> None:
        with running_valkey() as server:
            async with two(server.url) as (here, _):
                server.process.send_signal(signal.SIGSTOP)
                try:
                    assert not await here.messages.publish("news", b"hello")
                finally:
                    server.process.send_signal(signal.SIGCONT)


async def _nothing_is_heard() -> bool:
    return not REGISTRY.get_sample_value("assay_messages_connected")


@pytest.mark.slow
class TestAServerThatHangs:
    async def test_is_noticed_by_those_who_only_listen(self) -> None:
        with running_valkey() as server:
            async with two(server.url) as (_, there):
                subscription = there.messages.subscribe("news")
                await anext(subscription)
                server.process.send_signal(signal.SIGSTOP)
                try:
                    await eventually(_nothing_is_heard)
                finally:
                    server.process.send_signal(signal.SIGCONT)

                assert await anext(subscription) is MISSED
