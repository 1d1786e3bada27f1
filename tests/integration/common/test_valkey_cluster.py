"""A real Valkey cluster: of one server that has all slots, and of two that share them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from pydantic import SecretStr
from valkey import Valkey
from valkey.crc import key_slot

from common.valkey.calls import FunctionLibrary, ValkeyAwayError, ValkeyCalls, ValkeyRefusedError, open_valkey
from common.valkey.messages import MISSED
from tests.servers import free_port
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import eventually

SLOTS = 16384
COUNTING = FunctionLibrary(
    "counting",
    "#!lua name=counting\n"
    "redis.register_function('count_two', function(keys, args)\n"
    "  return redis.call('INCR', keys[1]) + redis.call('INCR', keys[2])\n"
    "end)",
)


def cluster_state(client: Valkey) -> str:
    return str(client.cluster("INFO"))


def bus_port(server: ValkeyServer) -> int:
    with server.client() as client:
        return int(client.config_get("cluster-port")["cluster-port"])


def await_ok(servers: list[ValkeyServer]) -> None:
    deadline = time.monotonic() + 20
    for server in servers:
        with server.client() as client:
            while "'ok'" not in cluster_state(client) and "state:ok" not in cluster_state(client):
                assert time.monotonic() < deadline, cluster_state(client)
                time.sleep(0.05)


@contextmanager
def running_member() -> Iterator[ValkeyServer]:
    options = {
        "--cluster-enabled": "yes",
        "--cluster-port": str(free_port()),
        "--cluster-node-timeout": "2000",
    }
    with running_valkey(*(word for option in options.items() for word in option)) as server:
        yield server


@pytest.fixture
def one_server() -> Iterator[ValkeyServer]:
    with running_member() as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
        await_ok([server])
        yield server


@pytest.fixture
def two_servers() -> Iterator[list[ValkeyServer]]:
    with ExitStack() as stack:
        servers = [stack.enter_context(running_member()) for _ in range(2)]
        for number, server in enumerate(servers):
            with server.client() as client:
                half = SLOTS // 2
                client.execute_command("CLUSTER ADDSLOTSRANGE", number * half, (number + 1) * half - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        with servers[0].client() as client:
            client.execute_command("CLUSTER MEET", "127.0.0.1", servers[1].port, bus_port(servers[1]))
        await_ok(servers)
        yield servers


@pytest.fixture
async def calls(two_servers: list[ValkeyServer]) -> AsyncIterator[ValkeyCalls]:
    async with open_valkey(cluster_url(two_servers[0]), timeout_s=10) as opened:
        yield opened


def cluster_url(server: ValkeyServer) -> SecretStr:
    return SecretStr(f"valkey+cluster://127.0.0.1:{server.port}")


def commands_done(server: ValkeyServer, name: str) -> int:
    with server.client() as client:
        stats = client.info("commandstats")
    return int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"])


class TestAClusterOfOne:
    async def test_does_all_that_a_single_server_does(self, one_server: ValkeyServer) -> None:
        async with open_valkey(cluster_url(one_server), timeout_s=2) as calls:
            found = await asyncio.gather(*(calls.call("INCR", f"assay:{{ins_{n}}}:x") for n in range(50)))
            counted = await calls.call_function(COUNTING, "count_two", ["{a}1", "{a}2"], [])

        assert found == [1] * 50
        assert counted == 2

    async def test_refuses_keys_of_several_slots_in_one_call(self, one_server: ValkeyServer) -> None:
        async with open_valkey(cluster_url(one_server), timeout_s=2) as calls:
            with pytest.raises(ValkeyRefusedError, match="CROSSSLOT"):
                await calls.call_function(COUNTING, "count_two", ["a", "b"], [])


class TestAClusterOfTwo:
    async def test_gets_every_call_at_the_server_that_has_its_key(
        self, calls: ValkeyCalls, two_servers: list[ValkeyServer]
    ) -> None:
        found = await asyncio.gather(*(calls.call("INCR", f"key-{number}") for number in range(200)))

        assert found == [1] * 200
        sizes = []
        for server in two_servers:
            with server.client() as client:
                sizes.append(client.dbsize())
        assert min(sizes) > 0
        assert sum(sizes) == 200
        assert (
            sum(commands_done(server, "incr") for server in two_servers) == 200
        )  # none was sent elsewhere first

    async def test_has_functions_loaded_on_both_and_called_where_their_first_key_is(
        self, calls: ValkeyCalls, two_servers: list[ValkeyServer]
    ) -> None:
        keys = [(f"{{ins_{number}}}:a", f"{{ins_{number}}}:b") for number in range(40)]

        found = await asyncio.gather(*(calls.call_function(COUNTING, "count_two", pair, []) for pair in keys))
        called = [commands_done(server, "fcall") for server in two_servers]
        again = await asyncio.gather(*(calls.call_function(COUNTING, "count_two", pair, []) for pair in keys))

        assert found == [2] * 40
        assert again == [4] * 40
        assert sum(commands_done(server, "fcall") for server in two_servers) == sum(called) + 40

    async def test_is_followed_when_a_slot_moves(
        self, calls: ValkeyCalls, two_servers: list[ValkeyServer]
    ) -> None:
        slot = key_slot(b"empty")
        await calls.call("GET", "empty")
        _give(slot, two_servers)

        assert await calls.call("INCR", "empty") == 1

        async def is_learned() -> bool:
            redirected = commands_done(two_servers[0], "incr") + commands_done(two_servers[1], "incr")
            await calls.call("INCR", "empty")
            now = commands_done(two_servers[0], "incr") + commands_done(two_servers[1], "incr")
            return now == redirected + 1

        assert await eventually(is_learned)

    async def test_that_loses_one_goes_on_with_the_other(
        self, calls: ValkeyCalls, two_servers: list[ValkeyServer]
    ) -> None:
        for server in two_servers:
            with server.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
        keys = [f"key-{number}" for number in range(50)]
        await asyncio.gather(*(calls.call("SET", key, "a") for key in keys))
        two_servers[1].process.kill()
        two_servers[1].process.wait(10)

        async def settled() -> bool:
            found = await asyncio.gather(*(calls.call("GET", key) for key in keys), return_exceptions=True)
            away = {key for key, each in zip(keys, found, strict=True) if isinstance(each, ValkeyAwayError)}
            return away == {key for key in keys if key_slot(key.encode()) >= SLOTS // 2} and calls.is_away

        assert await eventually(settled)

    async def test_carries_messages_from_any_server_to_any_other(
        self, two_servers: list[ValkeyServer]
    ) -> None:
        async with (
            open_valkey(cluster_url(two_servers[0]), timeout_s=2) as here,
            open_valkey(cluster_url(two_servers[1]), timeout_s=2) as there,
        ):
            heard = there.messages.subscribe("news")
            async with asyncio.timeout(10):
                assert await anext(heard) is MISSED
                await here.messages.publish("news", b"hello")
                assert await anext(heard) == b"hello"


def _give(slot: int, servers: list[ValkeyServer]) -> None:
    """Let the other server have a slot that holds nothing."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        owner = 0 if slot < SLOTS // 2 else 1
        taker = clients[1 - owner]
        identity = taker.execute_command("CLUSTER MYID").decode()
        for client in (taker, clients[owner]):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", identity)
