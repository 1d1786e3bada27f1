"""Refusals before a request becomes a task, over real connections."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from tests.api.common.conftest import BODY_LIMIT
from tests.api.common.guarded import SCORED, SHORT, SLOW, Service, counted
from tests.raw_clients import raw_client, request
from tests.waiting import eventually


@pytest.fixture
async def service() -> Service:
    return Service()


class TestOverload:
    async def test_is_answered_like_any_failure(self, service: Service) -> None:
        before = counted("POST", SLOW, 503)
        async with service.serving() as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            await second.send(request(SLOW, "X-Request-ID: req-7", method="POST", body=b"{}"))

            answer = await second.answer()
            service.gate.set()

            assert answer.status == 503
            assert answer.problem() == "overloaded"
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["x-request-id"] == "req-7"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "date" in answer.headers
            assert (await first.answer()).status == 200
            await eventually(lambda: is_counted(before + 1))

    async def test_refuses_a_burst_that_is_read_at_once_before_any_of_it_is_begun(self) -> None:
        service = Service(places=3)
        service.gate.set()
        async with service.serving() as url, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(raw_client(url)) for _ in range(5)]
            await asyncio.gather(*(client.send(request()) for client in clients))
            await asyncio.gather(*(client.answer() for client in clients))
            for client in clients:  # without a step in between: the server finds all of them at once
                client.send_now(SCORED)

            answers = [await client.answer() for client in clients]

        assert sorted(answer.status for answer in answers) == [200, 200, 200, 503, 503]
        assert service.ended == 3

    async def test_leaves_the_connection_usable(self, service: Service) -> None:
        async with service.serving() as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            await second.send(SCORED + SCORED[:-1])
            refused = [await second.answer()]
            await second.send(SCORED[-1:])
            refused.append(await second.answer())
            await second.send(request())
            other = await second.answer()
            service.gate.set()
            await first.answer()
            await second.send(SCORED)

            again = await second.answer()

            assert [answer.status for answer in (*refused, other, again)] == [503, 503, 200, 200]

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(request(SLOW, "Connection: close", method="POST", body=b"{}"), id="asked to close"),
            pytest.param(SCORED.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
            pytest.param(
                request(SLOW, "Expect: 100-continue", "Content-Length: 2", method="POST"),
                id="waits before it sends its body",
            ),
        ],
    )
    async def test_closes_where_nothing_more_can_follow(self, service: Service, sent: bytes) -> None:
        async with service.serving() as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            await second.send(sent)

            answer = await second.answer()

            assert answer.problem() == "overloaded"
            assert answer.headers["connection"] == "close"
            assert await second.rest() == b""
            service.gate.set()

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(
                request(SLOW, f"Content-Length: {BODY_LIMIT + 1}", method="POST"), id="declared and not sent"
            ),
            pytest.param(
                request(SLOW, "Transfer-Encoding: chunked", method="POST")
                + (b"400\r\n" + b"x" * 1024 + b"\r\n") * (BODY_LIMIT // 1024 + 1),
                id="without end",
            ),
        ],
    )
    async def test_does_not_read_bodies_that_are_too_long(self, service: Service, sent: bytes) -> None:
        async with service.serving() as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            await second.send(sent)

            answer = await second.answer()
            service.gate.set()

            assert answer.problem() == "body-too-large"
            assert answer.headers["connection"] == "close"
            assert await second.rest() == b""
            assert (await first.answer()).status == 200

    async def test_reads_over_bodies_that_are_as_long_as_they_may_be(self, service: Service) -> None:
        chunks = (b"400\r\n" + b"x" * 1024 + b"\r\n") * (BODY_LIMIT // 1024) + b"0\r\n\r\n"
        async with service.serving() as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            for _ in range(2):
                await second.send(request(SLOW, "Transfer-Encoding: chunked", method="POST") + chunks)

                assert (await second.answer()).problem() == "overloaded"
            service.gate.set()

    async def test_leaves_a_connection_its_pause_between_requests_and_no_more(self, service: Service) -> None:
        async with (
            service.serving(keep_alive_s=1) as url,
            raw_client(url) as first,
            raw_client(url) as second,
        ):
            await first.send(SCORED)
            await service.begun.acquire()
            await second.send(SCORED)
            await second.answer()

            assert await second.rest() == b""
            service.gate.set()
            assert (await first.answer()).status == 200

    async def test_gives_the_next_request_its_own_time(self, service: Service) -> None:
        async with service.serving(SHORT) as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            await second.send(SCORED)
            refused = await second.answer()
            await second.send(b"POST")

            late = await second.answer()

            assert (refused.status, late.status) == (503, 408)
            service.gate.set()

    @pytest.mark.parametrize("at", [1, 30, len(SCORED) - 1])
    async def test_takes_a_request_in_pieces_as_one(self, service: Service, at: int) -> None:
        async with service.serving() as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            await second.send(SCORED + SCORED[:at])
            answers = [await second.answer()]
            await second.send(SCORED[at:] + request())
            answers += [await second.answer(), await second.answer()]

            assert [answer.status for answer in answers] == [503, 503, 200]
            service.gate.set()

    async def test_ends_when_a_client_goes_away(self, service: Service) -> None:
        async with service.serving() as url:
            async with raw_client(url) as gone:
                await gone.send(SCORED)
                await service.begun.acquire()

            async def has_place() -> bool:
                async with raw_client(url) as client:
                    await client.send(SCORED[:-1])
                    service.gate.set()
                    await client.send(SCORED[-1:])
                    return (await client.answer()).status == 200

            assert await eventually(has_place)

    async def test_of_one_route_is_none_of_another(self, service: Service) -> None:
        async with service.serving() as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            for other in (request(), request("/v1/length", method="POST", body=b"{}")):
                await second.send(other)

                assert (await second.answer()).status == 200
            service.gate.set()

    async def test_logs_one_line_for_all_that_were_refused_together(self, service: Service) -> None:
        async with service.serving(SHORT) as url, raw_client(url) as first, raw_client(url) as second:
            await first.send(SCORED)
            await service.begun.acquire()
            with capture_logs() as lines:
                for _ in range(20):
                    await second.send(SCORED)
                    await second.answer()

                async def all_told() -> bool:
                    return sum(int(line.get("count", 0)) for line in lines) == 20

                await eventually(all_told)
            service.gate.set()

        assert {line["event"] for line in lines} == {"requests.shed"}
        assert len(lines) < 20


async def is_counted(times: float) -> bool:
    return counted("POST", SLOW, 503) == times
