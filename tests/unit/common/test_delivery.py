import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.circuit import Circuit
from common.delivery import PIECE_BYTES, Delivery, courier, deliver
from common.errors import UnavailableError
from common.http import MAX_ANSWER_BYTES
from tests.raw_servers import Answer, answering, reply
from tests.servers import free_port, serving
from tests.waiting import PATIENCE_S

SHORT_S = 0.2
LONG_S = 5.0


async def tell(base_url: str, *, timeout_s: float = LONG_S) -> Delivery:
    async with courier(base_url, timeout_s=timeout_s) as client:
        return await deliver(client, "/v1/internal/things", target="things", body=b"{}", headers=dict)


async def told(answer: bytes | Answer, *, timeout_s: float = LONG_S) -> Delivery:
    async with answering(answer) as base_url:
        return await tell(base_url, timeout_s=timeout_s)


def failed(error: str) -> Delivery:
    return Delivery("things", delivered=False, error=error)


class TestDeliver:
    async def test_posts_json_with_the_callers_headers(self) -> None:
        seen: list[Request] = []
        bodies: list[bytes] = []

        async def receive(request: Request) -> Response:
            seen.append(request)
            bodies.append(await request.body())
            return JSONResponse({"accepted": 1}, status_code=202)

        async with (
            serving(Starlette(routes=[Route("/v1/things", receive, methods=["POST"])])) as base_url,
            courier(base_url, timeout_s=LONG_S) as client,
        ):
            delivery = await deliver(
                client,
                "/v1/things",
                target="things",
                body=b'{"a":1}',
                headers=lambda: {"Authorization": "Bearer t"},
            )

        assert delivery == Delivery("things", delivered=True)
        assert bodies == [b'{"a":1}']
        assert seen[0].headers["content-type"] == "application/json"
        assert seen[0].headers["authorization"] == "Bearer t"

    @pytest.mark.parametrize("size", [0, PIECE_BYTES, PIECE_BYTES + 1, 3_000_000])
    async def test_a_body_of_any_size_arrives_whole_and_says_how_long_it_is(self, size: int) -> None:
        body = (bytes(range(251)) * (size // 251 + 1))[:size]
        arrived: list[tuple[bytes, str]] = []

        async def receive(request: Request) -> Response:
            arrived.append((await request.body(), request.headers["content-length"]))
            return JSONResponse({"accepted": 1}, status_code=202)

        async with (
            serving(Starlette(routes=[Route("/v1/things", receive, methods=["POST"])])) as base_url,
            courier(base_url, timeout_s=LONG_S) as client,
        ):
            delivery = await deliver(client, "/v1/things", target="things", body=body, headers=dict)

        assert delivery.delivered
        assert arrived == [(body, str(size))]

    async def test_an_accepted_answer_of_our_own_kind_is_a_delivery(self) -> None:
        assert await told(reply(202, b'{"accepted":1,"repeated":0}')) == Delivery("things", delivered=True)

    @pytest.mark.parametrize("body", [b"", b"<html>captive portal</html>", b"[]", b'"ok"', b"{", b"\xff"])
    async def test_an_accepted_answer_of_another_kind_is_none(self, body: bytes) -> None:
        assert await told(reply(202, body)) == failed("unknown answer")

    @pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 307, 401, 403, 404, 429, 500, 502, 503, 504])
    async def test_another_status_is_a_failure_worth_another_try(self, status: int) -> None:
        headers = b"Location: http://127.0.0.1:1/\r\n"

        assert await told(reply(status, headers=headers)) == failed(f"status {status}")

    @pytest.mark.parametrize("status", [400, 409, 413, 422])
    async def test_a_message_that_is_not_understood_is_refused(self, status: int) -> None:
        delivery = await told(reply(status, b'{"canary":1}'))

        assert delivery == Delivery("things", delivered=False, error=f"status {status}", refused=True)

    async def test_a_refused_connection_is_a_failure(self) -> None:
        assert await tell(f"http://127.0.0.1:{free_port()}") == failed("ConnectError")

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"", "RemoteProtocolError"),
            (b"garbage\r\n\r\n", "RemoteProtocolError"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "RemoteProtocolError"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "RemoteProtocolError"),
            (b"HTTP/1.1 abc OK\r\n\r\n", "RemoteProtocolError"),
            (b"HTTP/9.9 202 OK\r\nContent-Length: 0\r\n\r\n", "RemoteProtocolError"),
            (b"HTTP/1.1 202 OK\r\nno colon\r\n\r\n", "RemoteProtocolError"),
            (b"HTTP/1.1 202 OK\r\nContent-Length: abc\r\n\r\n", "RemoteProtocolError"),
            (b"HTTP/1.1 202 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", "RemoteProtocolError"),
            (b"HTTP/1.1 202 \xff\xfe\r\nContent-Length: 0\r\n\r\n", "unknown answer"),
            (b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n", "RemoteProtocolError"),
            (b"HTTP/1.1 202 OK\r\nContent-Length: 100\r\n\r\nabc", "RemoteProtocolError"),
            (b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "RemoteProtocolError"),
            (reply(202, b"abc", headers=b"Content-Encoding: gzip\r\n"), "RemoteProtocolError"),
        ],
    )
    async def test_an_answer_that_is_no_http_is_a_failure(self, answer: bytes, error: str) -> None:
        assert await told(answer) == failed(error)

    async def test_silence_is_a_failure_when_the_time_is_over(self) -> None:
        async def never(_writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        assert await told(never, timeout_s=SHORT_S) == failed("ReadTimeout")

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 202 OK\r\nContent-Length: 1000000\r\n\r\n"])
    async def test_a_byte_now_and_then_does_not_make_more_time(self, start: bytes) -> None:
        async def drip(writer: asyncio.StreamWriter) -> None:
            writer.write(start or b"HTTP/1.1 202 OK\r\nX-Long: ")
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(SHORT_S / 10)

        async with asyncio.timeout(PATIENCE_S):  # what it sends would take hours
            assert await told(drip, timeout_s=SHORT_S) == failed("ReadTimeout")

    async def test_a_body_that_never_ends_ends_with_the_time(self) -> None:
        async def flood(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"1\r\na\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)

        assert await told(flood, timeout_s=SHORT_S) == failed("ReadTimeout")

    @pytest.mark.parametrize(("status", "times"), [(401, 1), (202, 0), (403, 0), (503, 0)])
    async def test_only_headers_that_let_nobody_in_count_as_refused(self, status: int, times: int) -> None:
        refused: list[int] = []
        async with answering(reply(status)) as base_url, courier(base_url, timeout_s=LONG_S) as client:
            await deliver(
                client, "/", target="things", body=b"{}", headers=dict, refused=lambda: refused.append(1)
            )

        assert len(refused) == times

    async def test_a_missing_service_token_is_a_failure_and_nothing_is_sent(self) -> None:
        def no_token() -> dict[str, str]:
            raise UnavailableError

        async with answering(b"") as base_url, courier(base_url, timeout_s=LONG_S) as client:
            delivery = await deliver(client, "/", target="things", body=b"{}", headers=no_token)

        assert delivery == failed("UnavailableError")

    async def test_a_caller_that_is_cancelled_stays_cancelled(self) -> None:
        asked = asyncio.Event()

        async def never(_writer: asyncio.StreamWriter) -> None:
            asked.set()
            await asyncio.Event().wait()

        async with answering(never) as base_url:
            telling = asyncio.create_task(tell(base_url))
            await asked.wait()
            telling.cancel()

            with pytest.raises(asyncio.CancelledError):
                await telling


class TestBound:
    @pytest.mark.parametrize(("size", "taken"), [(MAX_ANSWER_BYTES, True), (MAX_ANSWER_BYTES + 1, False)])
    async def test_of_an_answer_is_exact(self, size: int, *, taken: bool) -> None:
        delivery = await told(reply(202, b'{"a":"' + b"b" * (size - 8) + b'"}'))

        assert delivery == (Delivery("things", delivered=True) if taken else failed("RemoteProtocolError"))


async def tell_with(circuit: Circuit, base_url: str) -> Delivery:
    async with courier(base_url, timeout_s=LONG_S) as client:
        return await deliver(client, "/things", target="things", body=b"{}", headers=dict, circuit=circuit)


class TestDeliverWithACircuit:
    async def test_failures_open_it_and_then_nothing_is_sent(self) -> None:
        circuit = Circuit("things", failures_to_open=2)
        asked: list[bool] = []

        async def fail(writer: asyncio.StreamWriter) -> None:
            asked.append(True)
            writer.write(reply(503))

        async with answering(fail) as base_url:
            deliveries = [await tell_with(circuit, base_url) for _ in range(5)]

        assert deliveries == [failed("status 503")] * 2 + [failed("circuit open")] * 3
        assert len(asked) == 2

    @pytest.mark.parametrize("answer", [reply(202, b"{}"), reply(422)])
    async def test_an_answer_of_the_service_itself_is_a_success(self, answer: bytes) -> None:
        circuit = Circuit("things", failures_to_open=2)
        circuit.failed()

        async with answering(answer) as base_url:
            await tell_with(circuit, base_url)
        circuit.failed()

        assert not circuit.is_open

    @pytest.mark.parametrize("answer", [b"", reply(202, b"<html>"), reply(401), reply(404), reply(429)])
    async def test_anything_else_is_a_failure(self, answer: bytes) -> None:
        circuit = Circuit("things", failures_to_open=1)

        async with answering(answer) as base_url:
            await tell_with(circuit, base_url)

        assert circuit.is_open

    async def test_without_a_token_nothing_is_learnt_about_the_service(self) -> None:
        def no_token() -> dict[str, str]:
            raise UnavailableError

        circuit = Circuit("things", failures_to_open=1)

        async with answering(b"") as base_url, courier(base_url, timeout_s=LONG_S) as client:
            await deliver(client, "/", target="things", body=b"{}", headers=no_token, circuit=circuit)

        assert not circuit.is_open
