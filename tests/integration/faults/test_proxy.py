"""The fault proxy against a real server: every fault is what it says, at once, and ends when it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.faults import (
    GARBAGE,
    GARBLED,
    PASS,
    REFUSE,
    RESET,
    RESET_IN_ANSWER,
    SILENT,
    STATUS_503,
    TRUNCATED,
    Fault,
    Mode,
)
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.waiting import eventually

GREETING = b"hello, whoever you are\n"
PATIENCE_S = 0.3


class Echo:
    """Greets nobody and repeats what it hears; remembers it too."""

    def __init__(self) -> None:
        self.heard = b""
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    running = Echo()
    server = await asyncio.start_server(running.handle, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(("127.0.0.1", echo.port)) as running:
        yield running


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes = GREETING) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, count: int = len(GREETING)) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readexactly(count)

    async def hear_all(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read(-1)

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.reader.readexactly(1)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


class TestPass:
    async def test_passes_both_ways(self, proxy: FaultProxy) -> None:
        async with client(proxy) as caller:
            await caller.say()

            assert await caller.hear() == GREETING

    async def test_passes_more_than_any_buffer_holds(self, proxy: FaultProxy) -> None:
        much = bytes(range(256)) * 8192
        async with client(proxy) as caller:
            telling = asyncio.create_task(caller.say(much))

            assert await caller.hear(len(much)) == much
            await telling

    async def test_passes_the_end_on(self, proxy: FaultProxy) -> None:
        async with client(proxy) as caller:
            await caller.say()
            caller.writer.write_eof()

            assert await caller.hear_all() == GREETING

    async def test_holds_nothing_once_both_are_gone(self, proxy: FaultProxy) -> None:
        async with client(proxy) as caller:
            await caller.say()
            await caller.hear()

        async def nothing_is_held() -> bool:
            return proxy.open_connections == 0

        await eventually(nothing_is_held)


class TestRefuse:
    async def test_nobody_listens(self, proxy: FaultProxy) -> None:
        await proxy.set(REFUSE)

        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)

    async def test_resets_what_was_open(self, proxy: FaultProxy) -> None:
        async with client(proxy) as caller:
            await caller.say()
            await caller.hear()
            await proxy.set(REFUSE)

            with pytest.raises(ConnectionResetError):
                await caller.hear_all()

    async def test_listens_again_afterwards(self, proxy: FaultProxy) -> None:
        await proxy.set(REFUSE)
        await proxy.set(PASS)

        async with client(proxy) as caller:
            await caller.say()
            assert await caller.hear() == GREETING


class TestReset:
    async def test_resets_new_connections(self, proxy: FaultProxy) -> None:
        await proxy.set(RESET)

        async with client(proxy) as caller:
            with pytest.raises(ConnectionError):
                await caller.hear_all()

    async def test_resets_running_connections(self, proxy: FaultProxy) -> None:
        async with client(proxy) as caller:
            await caller.say()
            await caller.hear()
            await proxy.set(RESET)

            with pytest.raises(ConnectionResetError):
                await caller.hear_all()

    async def test_resets_in_the_middle_of_an_answer_that_the_target_gave(
        self, proxy: FaultProxy, echo: Echo
    ) -> None:
        async with client(proxy) as caller:
            await caller.say()
            await caller.hear()
            await proxy.set(RESET_IN_ANSWER)
            await caller.say()

            assert await caller.hear(20) == GREETING[:20]
            with pytest.raises(ConnectionResetError):
                await caller.hear_all()
            assert echo.heard == GREETING * 2


class TestSilent:
    async def test_takes_connections_and_says_nothing(self, proxy: FaultProxy, echo: Echo) -> None:
        await proxy.set(SILENT)

        async with client(proxy) as caller:
            await caller.say()

            assert await caller.hears_nothing()
            assert echo.heard == b""

    async def test_running_connections_fall_silent(self, proxy: FaultProxy, echo: Echo) -> None:
        async with client(proxy) as caller:
            await caller.say()
            await caller.hear()
            await proxy.set(SILENT)
            await caller.say()

            assert await caller.hears_nothing()
            assert echo.heard == GREETING

    async def test_what_was_held_goes_on_when_the_fault_ends(self, proxy: FaultProxy) -> None:
        await proxy.set(SILENT)
        async with client(proxy) as caller:
            await caller.say()
            await proxy.set(PASS)

            assert await caller.hear() == GREETING

    async def test_what_was_held_reaches_the_target_late_even_when_its_sender_is_gone(
        self, proxy: FaultProxy, echo: Echo
    ) -> None:
        await proxy.set(SILENT)
        async with client(proxy) as caller:
            await caller.say()
        await proxy.set(PASS)

        async def heard() -> bytes:
            return echo.heard

        assert await eventually(heard) == GREETING


class TestSlow:
    async def test_delays_each_exchange(self, proxy: FaultProxy) -> None:
        await proxy.set(Fault(Mode.SLOW, delay_s=3 * PATIENCE_S))
        async with client(proxy) as caller:
            await caller.say()

            assert await caller.hears_nothing()
            assert await caller.hear() == GREETING

    async def test_stops_waiting_when_the_fault_ends(self, proxy: FaultProxy) -> None:
        await proxy.set(Fault(Mode.SLOW, delay_s=3600))
        async with client(proxy) as caller:
            await caller.say()
            assert await caller.hears_nothing()
            await proxy.set(PASS)

            assert await caller.hear() == GREETING


class TestCut:
    async def test_cuts_the_request(self, proxy: FaultProxy, echo: Echo) -> None:
        await proxy.set(Fault(Mode.CUT_REQUEST, after_bytes=5))
        async with client(proxy) as caller:
            await caller.say()
            await caller.hear_all()

            async def heard() -> bytes:
                return echo.heard

            assert await eventually(heard) == GREETING[:5]

    async def test_cuts_the_answer(self, proxy: FaultProxy, echo: Echo) -> None:
        await proxy.set(Fault(Mode.CUT_ANSWER, after_bytes=5))
        async with client(proxy) as caller:
            await caller.say()

            assert await caller.hear_all() == GREETING[:5]
            assert echo.heard == GREETING


class TestAnswer:
    async def test_answers_garbage_in_turns_and_asks_nobody(self, proxy: FaultProxy, echo: Echo) -> None:
        await proxy.set(GARBLED)

        answers = set()
        for _ in GARBAGE:
            async with client(proxy) as caller:
                await caller.say(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
                answers.add(await caller.hear_all())

        assert answers == set(GARBAGE)
        assert echo.heard == b""

    async def test_answers_one_who_waits_to_be_spoken_to(self, proxy: FaultProxy) -> None:
        await proxy.set(GARBLED)

        async with client(proxy) as caller:
            assert await caller.hear_all() in GARBAGE

    async def test_running_connections_get_it_too(self, proxy: FaultProxy, echo: Echo) -> None:
        async with client(proxy) as caller:
            await caller.say()
            await caller.hear()
            await proxy.set(STATUS_503)
            await caller.say()

            assert (await caller.hear_all()).startswith(b"HTTP/1.1 503 ")
            assert echo.heard == GREETING

    async def test_a_chunked_body_can_end_too_early(self, proxy: FaultProxy) -> None:
        await proxy.set(TRUNCATED)

        async with client(proxy) as caller:
            await caller.say(b"GET / HTTP/1.1\r\n\r\n")

            assert (await caller.hear_all()).endswith(b'40\r\n{"begun": "and never e')


class TestATargetThatIsGone:
    async def test_resets_its_clients(self) -> None:
        async with fault_proxy(("127.0.0.1", 1)) as proxy, client(proxy) as caller:
            with pytest.raises(ConnectionError):
                await caller.hear_all()
