"""Closing a connection whose client is still sending."""

import asyncio

import pytest

from common.lingering import Lingering, LingeringTransport, LingerLimits

LIMITS = LingerLimits(seconds=2, length=10, connections=2)


class FakeTransport(asyncio.Transport):
    """Notes what is done with it, and raises as uvloop does once it is closed."""

    def __init__(self, *, half_closes: bool = True) -> None:
        super().__init__()
        self.done: list[str] = []
        self._half_closes = half_closes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_closing():
            raise RuntimeError("the handler is closed")
        self.done.append(bytes(data).decode())

    def is_closing(self) -> bool:
        return "close" in self.done

    def close(self) -> None:
        self.done.append("close")

    def resume_reading(self) -> None:
        self.done.append("resume")

    def can_write_eof(self) -> bool:
        return self._half_closes

    def write_eof(self) -> None:
        self.done.append("eof")


@pytest.fixture
def lingering() -> Lingering:
    return Lingering(LIMITS)


def transport_over(fake: FakeTransport, lingering: Lingering, *, unread: bool = True) -> LingeringTransport:
    return LingeringTransport(fake, lingering, lambda: unread)


class TestLingering:
    async def test_ends_only_our_direction_and_reads_over_the_rest(self, lingering: Lingering) -> None:
        fake = FakeTransport()
        transport = transport_over(fake, lingering)

        transport.write(b"answer")
        transport.close()
        transport.read_over(b"x" * LIMITS.length)

        assert fake.done == ["answer", "resume", "eof"]
        assert transport.lingers
        assert transport.is_closing()

    async def test_is_left_out_where_nothing_more_can_come(self, lingering: Lingering) -> None:
        fake = FakeTransport()

        transport_over(fake, lingering, unread=False).close()

        assert fake.done == ["close"]
        assert len(lingering) == 0

    async def test_goes_without_the_end_of_our_direction_under_tls(self, lingering: Lingering) -> None:
        fake = FakeTransport(half_closes=False)

        transport_over(fake, lingering).close()

        assert fake.done == ["resume"]

    async def test_ends_after_so_many_bytes(self, lingering: Lingering) -> None:
        fake = FakeTransport()
        transport = transport_over(fake, lingering)
        transport.close()

        transport.read_over(b"x" * (LIMITS.length + 1))

        assert fake.done == ["resume", "eof", "close"]
        assert len(lingering) == 0

    async def test_ends_when_its_time_is_over(self, lingering: Lingering) -> None:
        fake = FakeTransport()
        transport_over(fake, lingering).close()
        now = asyncio.get_running_loop().time()

        lingering.close_late(now)
        before = list(fake.done)
        lingering.close_late(now + LIMITS.seconds)

        assert before == ["resume", "eof"]
        assert fake.done == ["resume", "eof", "close"]
        assert len(lingering) == 0

    async def test_is_for_so_many_connections_at_once(self, lingering: Lingering) -> None:
        fakes = [FakeTransport() for _ in range(LIMITS.connections + 1)]
        first, *_, last = [transport_over(fake, lingering) for fake in fakes]
        for transport in (first, *_, last):
            transport.close()

        assert not last.lingers
        assert fakes[-1].done == ["close"]

        lingering.forget(first)
        another = transport_over(FakeTransport(), lingering)
        another.close()

        assert another.lingers

    async def test_ends_when_the_service_stops(self, lingering: Lingering) -> None:
        fake = FakeTransport()
        transport = transport_over(fake, lingering)
        transport.close()

        transport.close()

        assert fake.done[-1] == "close"


class TestWriting:
    async def test_to_a_client_that_has_gone_is_no_error(self, lingering: Lingering) -> None:
        fake = FakeTransport()
        transport = transport_over(fake, lingering, unread=False)
        transport.close()

        transport.write(b"answer")

        assert fake.done == ["close"]

    async def test_after_the_last_answer_is_left_out(self, lingering: Lingering) -> None:
        fake = FakeTransport()
        transport = transport_over(fake, lingering)
        transport.close()

        transport.write(b"another")

        assert "another" not in fake.done
