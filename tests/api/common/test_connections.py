"""Slow clients and heads that are refused, over real connections."""

import asyncio
import json
from dataclasses import replace

import pytest
import uvloop

from common.lingering import LingerLimits
from tests.api.common.conftest import BODY_LIMIT
from tests.api.common.guarded import LIMITS, SCORED, SHORT, SLOW, Service, counted
from tests.raw_clients import RawClient, raw_client, request, sent_whole
from tests.waiting import PATIENCE_S, eventually

PATIENT = replace(LIMITS, linger=LingerLimits(seconds=PATIENCE_S))
MUCH = b"x" * 3_000_000


@pytest.fixture
async def service() -> Service:
    return Service()


class TestSlowHeads:
    @pytest.mark.parametrize("part", [b"G", b"GET /health HTTP/1.1\r\n", request()[:-2]])
    async def test_are_refused_when_their_time_is_over(self, service: Service, part: bytes) -> None:
        before = counted("other", "unknown", 408)
        async with service.connected(SHORT) as client:
            await client.send(part)

            answer = await client.answer()

            assert answer.status == 408
            assert answer.problem() == "request-timeout"
            assert answer.headers["connection"] == "close"
            assert await client.rest() == b""
        assert counted("other", "unknown", 408) == before + 1

    @pytest.mark.parametrize("drop", [b"X-Slow: 1\r\n", b"\r\n"])
    async def test_get_no_more_time_for_each_line(self, service: Service, drop: bytes) -> None:
        async with service.connected(SHORT) as client:
            await client.send(b"" if drop == b"\r\n" else b"GET /health HTTP/1.1\r\n")
            dripping = asyncio.create_task(drip(client, drop))

            answer = await client.answer()
            dripping.cancel()

            assert answer.problem() == "request-timeout"

    async def test_that_never_begin_end_without_a_word(self, service: Service) -> None:
        async with service.connected(SHORT) as client:
            assert await client.rest() == b""

    async def test_are_refused_on_a_connection_that_was_used_before(self, service: Service) -> None:
        async with service.connected(SHORT) as client:
            await client.send(request())
            first = await client.answer()
            await client.send(b"GET /hea")

            second = await client.answer()

            assert (first.status, second.status) == (200, 408)

    async def test_that_arrive_in_time_are_answered(self, service: Service) -> None:
        async with service.connected() as client:
            for byte in request():
                await client.send(bytes([byte]))

            assert (await client.answer()).status == 200


class TestSlowBodies:
    async def test_are_refused_when_their_time_is_over(self, service: Service) -> None:
        async with service.connected(SHORT) as client:
            await client.send(SCORED[:-1])

            answer = await client.answer()

            assert answer.problem() == "request-timeout"
            assert await client.rest() == b""
        assert service.begun.locked()

    async def test_that_are_shorter_than_they_said_are_refused(self, service: Service) -> None:
        async with service.connected(SHORT) as client:
            await client.send(request("/v1/length", "Content-Length: 9", method="POST") + b"12345")

            assert (await client.answer()).problem() == "request-timeout"

    async def test_that_were_announced_and_never_sent_are_refused(self, service: Service) -> None:
        async with service.connected(SHORT) as client:
            await client.send(
                request("/v1/length", "Content-Length: 9", "Expect: 100-continue", method="POST")
            )

            asked_for = await client.answer()
            answer = await client.answer()

            assert (asked_for.status, answer.status) == (100, 408)

    async def test_free_the_place_they_held(self, service: Service) -> None:
        async with service.serving(SHORT) as url:
            async with raw_client(url) as slow:
                await slow.send(SCORED[:-1])
                await slow.rest()
            service.gate.set()
            async with raw_client(url) as client:
                await client.send(SCORED)

                assert (await client.answer()).status == 200

    async def test_that_never_end_are_refused_at_the_limit(self, service: Service) -> None:
        async with service.connected() as client:
            await client.send(request("/v1/length", "Transfer-Encoding: chunked", method="POST"))
            for _ in range(BODY_LIMIT // 16):
                await client.send(b"20\r\n" + b"x" * 32 + b"\r\n")

            answer = await client.answer()

            assert answer.problem() == "body-too-large"
            assert answer.headers["connection"] == "close"

    async def test_do_not_limit_how_long_the_answer_takes(self, service: Service) -> None:
        async with service.connected(SHORT) as client:
            await client.send(SCORED)
            await service.begun.acquire()
            done, _ = await asyncio.wait([asyncio.create_task(client.rest())], timeout=3 * SHORT.body_s)

            assert not done
            service.gate.set()


class TestHeads:
    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(request("/health", *["X-Many: 1"] * LIMITS.headers), id="many headers"),
            pytest.param(request("/health", "X-Long: " + "x" * LIMITS.head_bytes), id="a long header"),
            pytest.param(request("/health?" + "x" * LIMITS.head_bytes), id="a long target"),
            pytest.param(request("/" + "x" * 70_000), id="a very long target"),
            pytest.param(request("/health", *[f"X-{n}: 1" for n in range(10_000)]), id="10,000 headers"),
            pytest.param(
                b"GET /health HTTP/1.1\r\nX-Endless: " + b"x" * 1_000_000, id="a header without end"
            ),
        ],
    )
    async def test_that_are_too_long_are_refused(self, service: Service, head: bytes) -> None:
        async with service.connected() as client:
            sending = asyncio.create_task(client.send(head))

            answer = await client.answer()
            await sending

            assert answer.status == 431
            assert answer.problem() == "head-too-large"
            assert answer.headers["connection"] == "close"

    async def test_at_the_limits_are_read(self, service: Service) -> None:
        many = ["X-Many: 1"] * (LIMITS.headers - 2)
        used = len(request("/health", *many, "X-Long: "))

        async with service.connected() as client:
            await client.send(request("/health", *many, "X-Long: " + "x" * (LIMITS.head_bytes - used)))

            assert (await client.answer()).status == 200

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(request(host=""), id="no host"),
            pytest.param(request("/health", "Host: evil.example"), id="two hosts"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
            pytest.param(b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", id="a version that does not exist"),
            pytest.param(b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", id="a target that is no URL"),
            pytest.param(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", id="CONNECT"),
            pytest.param(request("/health", "X: a\x00b"), id="NUL"),
            pytest.param(
                request("/v1/length", "Transfer-Encoding: gzip, chunked", method="POST") + b"0\r\n\r\n",
                id="an encoded body",
            ),
            pytest.param(
                request("/health", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
                id="an upgrade",
            ),
        ],
    )
    async def test_that_cannot_be_read_are_refused(self, service: Service, head: bytes) -> None:
        before = counted("other", "unknown", 400)
        async with service.connected() as client:
            await client.send(head)

            answer = await client.answer()

            assert answer.status == 400
            assert answer.problem() == "bad-request"
            assert await client.rest() == b""
        assert counted("other", "unknown", 400) == before + 1

    async def test_that_ask_for_another_protocol_take_no_place(self, service: Service) -> None:
        upgrade = request(SLOW, "Connection: Upgrade", "Upgrade: websocket", method="POST", body=b"{}")
        async with service.serving() as url:
            for _ in range(3):
                async with raw_client(url) as client:
                    await client.send(upgrade)
                    assert (await client.answer()).status == 400
            service.gate.set()
            async with raw_client(url) as client:
                await client.send(SCORED)

                assert (await client.answer()).status == 200

    async def test_end_where_they_end_whatever_follows_the_body(self, service: Service) -> None:
        head = request("/v1/headers", "Transfer-Encoding: chunked", method="POST")
        async with service.connected() as client:
            await client.send(head + b"2\r\n{}\r\n0\r\nAuthorization: Bearer smuggled\r\n\r\n")

            answer = await client.answer()

        assert answer.status == 200
        assert b"authorization" not in answer.body

    async def test_are_taken_without_the_spaces_around_their_values(self, service: Service) -> None:
        headers = (
            "Authorization:  Bearer x \t",
            "X-API-Key: a key\t",
            "X-Deadline-Ms:200  ",
            "X-Request-ID: req-7 ",
            "X-Empty:   ",
        )
        async with service.connected() as client:
            await client.send(request("/v1/headers", *headers, method="POST", body=b"{}"))

            answer = await client.answer()

        taken = json.loads(answer.body)
        assert answer.headers["x-request-id"] == "req-7"
        assert {name: taken[name] for name in ("authorization", "x-api-key", "x-deadline-ms", "x-empty")} == {
            "authorization": "Bearer x", "x-api-key": "a key", "x-deadline-ms": "200", "x-empty": "",
        }  # fmt: skip

    async def test_cannot_be_made_longer_by_what_follows_the_body(self, service: Service) -> None:
        head = request("/v1/headers", "Transfer-Encoding: chunked", method="POST")
        async with service.connected() as client:
            sending = asyncio.create_task(client.send(head + b"2\r\n{}\r\n0\r\n" + b"X-More: 1\r\n" * 5000))

            assert (await client.answer()).problem() == "head-too-large"
            await sending

    async def test_that_are_refused_are_answered_under_their_own_id(self, service: Service) -> None:
        async with service.connected() as client:
            await client.send(request("/health", "X-Request-ID: req-7", host=""))

            assert (await client.answer()).headers["x-request-id"] == "req-7"

    async def test_that_are_refused_do_not_take_the_answer_of_the_request_before(
        self, service: Service
    ) -> None:
        async with service.connected() as client:
            await client.send(SCORED + request(host="") + request())
            await service.begun.acquire()
            service.gate.set()

            answer = await client.answer()

            assert answer.status == 200
            assert answer.body == b'{"slow":true}'
            assert await client.rest() == b""

    async def test_after_a_body_that_was_longer_than_it_said_are_not_answered(self, service: Service) -> None:
        async with service.connected() as client:
            await client.send(
                request("/v1/length", "Content-Length: 2", method="POST") + b"{}\r\n{}" + request()
            )

            first = await client.answer()

            assert first.body == b'{"length":2}'
            assert b"alive" not in await client.rest()

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"zz\r\n", id="a length that is none"),
            pytest.param(b"0\r\n" + b"X-More: 1\r\n" * 5000, id="trailers without end"),
        ],
    )
    async def test_of_a_broken_body_do_not_take_the_answers_of_the_requests_before(
        self, service: Service, body: bytes
    ) -> None:
        whole = request("/v1/length", method="POST", body=b"{}")
        broken = request("/v1/length", "Transfer-Encoding: chunked", method="POST") + body
        async with service.connected() as client:
            await client.send(SCORED + whole + broken)
            async with asyncio.timeout(PATIENCE_S):
                await service.begun.acquire()
            await client.send(request())
            service.gate.set()

            answers = [await client.answer(), await client.answer()]

            assert [answer.body for answer in answers] == [b'{"slow":true}', b'{"length":2}']
            assert answers[-1].headers["connection"] == "close"
            assert await client.rest() == b""


class TestLastAnswers:
    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            pytest.param(request("/v1/length", method="POST", body=MUCH), 413, id="a declared body"),
            pytest.param(
                request("/v1/length", "Transfer-Encoding: chunked", method="POST")
                + b"%x\r\n%b\r\n0\r\n\r\n" % (len(MUCH), MUCH),
                413,
                id="a chunked body",
            ),
            pytest.param(b"GET /health HTTP/1.1\r\nX-Endless: " + MUCH, 431, id="a head"),
            pytest.param(request(method="POST", body=MUCH, host=""), 400, id="what nobody can read"),
        ],
    )
    async def test_reach_a_client_that_sends_on(self, service: Service, sent: bytes, status: int) -> None:
        async with service.serving(PATIENT) as url:
            answer = await sent_whole(url, sent)

        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1") == 1

    async def test_reach_a_client_that_was_late_and_sends_on(self, service: Service) -> None:
        limits = replace(SHORT, linger=PATIENT.linger)
        async with service.connected(limits) as client:
            await client.send(SCORED[:-1])
            answer = await client.answer()

            assert answer.status == 408
            assert await client.rest() == b""
            assert not await client.is_cut_off()
            assert not await client.is_cut_off()

    @pytest.mark.parametrize(
        "linger",
        [
            pytest.param(LingerLimits(seconds=0.1), id="seconds"),
            pytest.param(LingerLimits(seconds=PATIENCE_S, length=5), id="bytes"),
            pytest.param(LingerLimits(connections=0), id="connections"),
        ],
    )
    async def test_are_not_waited_for_without_end(self, service: Service, linger: LingerLimits) -> None:
        async with service.connected(replace(SHORT, linger=linger)) as client:
            await client.send(b"\x16\x03\x01\r\n\r\n")

            assert (await client.answer()).status == 400
            assert await eventually(client.is_cut_off)

    async def test_are_the_last(self, service: Service) -> None:
        async with service.connected() as client:
            await client.send(request(host="") + request())
            first = await client.answer()
            await client.send(request())

            assert first.status == 400
            assert await client.rest() == b""


class TestClientsThatLeave:
    def test_leave_no_error_behind(self, capsys: pytest.CaptureFixture[str]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(leave_before_the_answer())

        printed = capsys.readouterr()
        assert '"event":"request.answered"' in printed.out
        assert "error" not in printed.out + printed.err


async def leave_before_the_answer() -> None:
    """Have a client leave while the first of its two requests is worked on, and wait for the end of that."""
    service = Service()
    async with service.serving() as url, raw_client(url) as client:
        await client.send(SCORED + SCORED)
        async with asyncio.timeout(PATIENCE_S):
            await service.begun.acquire()
        client.leave()

        async def is_noticed() -> bool:
            return not service.admission.is_full()

        await eventually(is_noticed)
        service.gate.set()  # the server waits for what runs before it stops


async def drip(client: RawClient, drop: bytes) -> None:
    while True:
        await client.send(drop)
        await asyncio.sleep(SHORT.head_s / 10)
