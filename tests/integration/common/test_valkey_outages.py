"""A real Valkey that is killed, hangs, is slow or full: what callers get, and that it passes."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from valkey.exceptions import ResponseError

from common.valkey.calls import FunctionLibrary, ValkeyAwayError, ValkeyCalls, ValkeyRefusedError, open_valkey
from tests.faults.faults import PASS, RESET, SILENT, Fault, Mode
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.servers import free_port
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import eventually

FAILED_FIRST = 3  # as many as it takes to be sure
ADDING = FunctionLibrary(
    "adding",
    "#!lua name=adding\n"
    "redis.register_function('add_to', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)",
)


@pytest.fixture
async def proxy(valkey_server: ValkeyServer, valkey_url: str) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(("127.0.0.1", valkey_server.port)) as running:
        yield running


@pytest.fixture
async def calls(proxy: FaultProxy) -> AsyncIterator[ValkeyCalls]:
    async with open_valkey(SecretStr(f"valkey://127.0.0.1:{proxy.port}/0"), timeout_s=0.5) as opened:
        await opened.call("PING")
        yield opened


async def until_away(calls: ValkeyCalls) -> None:
    for _ in range(FAILED_FIRST):
        with pytest.raises(ValkeyAwayError):
            await calls.call("PING")
    assert calls.is_away


async def until_back(calls: ValkeyCalls) -> None:
    async def is_back() -> bool:
        return not calls.is_away

    assert await eventually(is_back, timeout_s=10)


class TestAValkeyThatHangs:
    async def test_costs_only_the_first_callers_their_time(
        self, calls: ValkeyCalls, proxy: FaultProxy
    ) -> None:
        await proxy.set(SILENT)
        await until_away(calls)

        async with asyncio.timeout(30):  # waiting for each of them would take minutes
            for _ in range(1000):
                with pytest.raises(ValkeyAwayError):
                    await calls.call("PING")

        assert proxy.open_connections < 10

    async def test_is_used_again_when_it_goes_on(self, calls: ValkeyCalls, proxy: FaultProxy) -> None:
        await proxy.set(SILENT)
        await until_away(calls)

        await proxy.set(PASS)

        await until_back(calls)
        assert await calls.call("INCR", "count") == 1

    async def test_keeps_nobody_longer_than_was_set_however_many_ask(
        self, calls: ValkeyCalls, proxy: FaultProxy
    ) -> None:
        await proxy.set(SILENT)

        async def ask_a_little_later(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(ValkeyAwayError):
                await calls.call("PING")

        async with asyncio.timeout(20):  # ten at a time, one after the other, would take 50 seconds
            await asyncio.gather(*(ask_a_little_later(turns) for turns in range(1000)))

        assert calls.is_away

    async def test_that_is_stopped_whole_is_away_and_comes_back(self) -> None:
        with running_valkey() as server:
            async with open_valkey(SecretStr(server.url), timeout_s=0.3) as calls:
                await calls.call("SET", "word", "kept")
                server.process.send_signal(signal.SIGSTOP)
                try:
                    await until_away(calls)
                finally:
                    server.process.send_signal(signal.SIGCONT)

                await until_back(calls)
                assert await calls.call("GET", "word") == b"kept"


class TestAValkeyThatIsKilled:
    async def test_is_found_again_by_itself_and_gets_its_functions(self) -> None:
        port = free_port()
        async with open_valkey(SecretStr(f"valkey://127.0.0.1:{port}/0"), timeout_s=1) as calls:
            with running_valkey(port=port) as server:
                assert await calls.call_function(ADDING, "add_to", ["count"], [2]) == 2
                server.process.kill()
                server.process.wait(10)
                await until_away(calls)

            with running_valkey(port=port):
                await until_back(calls)
                found = await asyncio.gather(
                    *(calls.call_function(ADDING, "add_to", ["count"], [1]) for _ in range(20))
                )

        assert sorted(found) == list(range(1, 21))

    async def test_in_the_middle_of_an_answer_fails_those_who_wait_for_it_alone(
        self, calls: ValkeyCalls, proxy: FaultProxy
    ) -> None:
        await calls.call("SET", "long", "x" * 100_000)
        await proxy.set(Fault(Mode.RESET, after_bytes=20_000))

        with pytest.raises(ValkeyAwayError):
            await calls.call("GET", "long")
        await proxy.set(PASS)

        assert len(await calls.call("GET", "long")) == 100_000

    async def test_while_nobody_asked_costs_nobody_anything(
        self, calls: ValkeyCalls, proxy: FaultProxy
    ) -> None:
        await proxy.set(RESET)  # ends the connection that waits
        await proxy.set(PASS)
        await asyncio.sleep(0.05)

        assert await calls.call("ECHO", "hello") == b"hello"


class TestCallers:
    async def test_who_go_away_take_nothing_from_others(self, calls: ValkeyCalls, proxy: FaultProxy) -> None:
        await proxy.set(Fault(Mode.SLOW, delay_s=0.2))
        words = [asyncio.create_task(calls.call("ECHO", f"{number}")) for number in range(20)]
        await asyncio.sleep(0.05)

        for word in words[::2]:
            word.cancel()
        found = await asyncio.gather(*words, return_exceptions=True)

        assert found[1::2] == [b"%d" % number for number in range(1, 20, 2)]
        assert all(isinstance(each, asyncio.CancelledError) for each in found[::2])

    async def test_who_wait_when_it_closes_are_told(self, valkey_url: str) -> None:
        async with open_valkey(SecretStr(valkey_url), timeout_s=5) as calls:
            waiting = asyncio.create_task(calls.call("BLPOP", "never", "0"))
            await asyncio.sleep(0.1)

        with pytest.raises(ValkeyAwayError):
            await waiting

    async def test_get_their_own_answers_although_one_before_them_ran_out_of_time(
        self, calls: ValkeyCalls
    ) -> None:
        with pytest.raises(ValkeyAwayError):
            await calls.call("BLPOP", "never", "0")

        found = await asyncio.gather(*(calls.call("ECHO", f"{number}") for number in range(50)))

        assert found == [b"%d" % number for number in range(50)]


class TestErrorReplies:
    async def test_that_mean_it_can_do_nothing_now_are_outages(self) -> None:
        with running_valkey("--maxmemory", "2mb", "--maxmemory-policy", "noeviction") as server:
            async with open_valkey(SecretStr(server.url), timeout_s=2) as calls:
                filling = [calls.call("SET", f"key-{number}", "x" * 100_000) for number in range(100)]

                found = await asyncio.gather(*filling, return_exceptions=True)

                assert isinstance(found[-1], ValkeyAwayError)

                assert not calls.is_away  # it answers, so there is no need to leave it alone
                assert await calls.call("GET", "nothing") is None

    async def test_of_a_replica_are_outages(self) -> None:
        with running_valkey() as first, running_valkey() as second:
            async with open_valkey(SecretStr(second.url), timeout_s=2) as calls:
                await calls.call("REPLICAOF", "127.0.0.1", first.port)

                with pytest.raises(ValkeyAwayError):
                    await calls.call("SET", "word", "a")

                await calls.call("REPLICAOF", "NO", "ONE")
                assert await calls.call("SET", "word", "a") == b"OK"

    async def test_that_mean_the_command_is_wrong_are_refusals_without_what_was_sent(
        self, calls: ValkeyCalls
    ) -> None:
        with pytest.raises(ValkeyRefusedError) as refused:
            await calls.call("SETT", "assay:secret-key", "secret-value")

        assert isinstance(refused.value, ResponseError)
        assert "secret" not in str(refused.value)

    async def test_to_a_function_that_fails_are_refusals(self, calls: ValkeyCalls) -> None:
        with pytest.raises(ValkeyRefusedError, match="not an integer"):
            await calls.call_function(ADDING, "add_to", ["count"], ["many"])
