"""Calls to a real Valkey."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from valkey.exceptions import ResponseError

from common.valkey.calls import FunctionLibrary, ValkeyAwayError, ValkeyCalls, open_valkey
from tests.servers import free_port
from tests.valkey import running_valkey
from tests.waiting import PATIENCE_S

ECHO = FunctionLibrary(
    "echoing",
    "#!lua name=echoing\nserver.register_function('echo_it', function(keys, args) return args[1] end)",
)


@pytest.fixture
async def calls(valkey_url: str) -> AsyncIterator[ValkeyCalls]:
    async with open_valkey(SecretStr(valkey_url), timeout_s=PATIENCE_S) as opened:
        yield opened


class TestCalls:
    async def test_of_one_moment_each_get_their_own_reply(self, calls: ValkeyCalls) -> None:
        replies = await asyncio.gather(*(calls.call("INCRBY", "count", number) for number in range(1, 5)))

        assert replies == [1, 3, 6, 10]

    async def test_that_valkey_refuses_fail_alone(self, calls: ValkeyCalls) -> None:
        replies = await asyncio.gather(
            calls.call("SET", "word", "a"), calls.call("INCR", "word"), calls.call("GET", "word"),
            return_exceptions=True,
        )  # fmt: skip

        assert isinstance(replies[1], ResponseError)
        assert replies[2] == b"a"

    async def test_say_that_nobody_is_there(self) -> None:
        url = SecretStr(f"valkey://127.0.0.1:{free_port()}/0")
        async with open_valkey(url, timeout_s=0.5) as calls:
            with pytest.raises(ValkeyAwayError):
                await calls.call("PING")

    async def test_go_on_when_the_server_was_away(self) -> None:
        port = free_port()
        async with open_valkey(SecretStr(f"valkey://127.0.0.1:{port}/0"), timeout_s=1) as calls:
            with running_valkey(port=port):
                await calls.call("PING")
            with pytest.raises(ValkeyAwayError):
                await calls.call("PING")
            with running_valkey(port=port):
                assert await calls.call("PING") in {b"PONG", True}


class TestFunctions:
    async def test_are_loaded_where_they_are_missing(self, calls: ValkeyCalls) -> None:
        assert await calls.call_function(ECHO, "echo_it", [], ["hello"]) == b"hello"
