import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from common.app import create_app
from common.middleware import RequestMiddleware
from common.settings import ServiceSettings
from tests.api.common.conftest import BODY_LIMIT, CANARY, Tiny, assert_problem
from tests.servers import serving
from tests.waiting import PATIENCE_S


class TestRequestId:
    @pytest.mark.parametrize("given", ["a", "req-7", "A.b_c-9", "x" * 64])
    async def test_is_taken_over_when_it_is_well_formed(self, client: httpx.AsyncClient, given: str) -> None:
        response = await client.get("/v1/things/5", headers={"X-Request-ID": given})

        assert response.headers["X-Request-ID"] == given

    @pytest.mark.parametrize(
        "given", ["", " ", "x" * 65, "a b", "a/b", "é", "a\x7f", '"', "<script>", "a,b", "{}"]
    )
    async def test_is_made_up_when_it_is_not(self, client: httpx.AsyncClient, given: str) -> None:
        response = await client.get("/v1/things/5", headers=[(b"X-Request-ID", given.encode("latin-1"))])

        assert re.fullmatch(r"req_[0-9a-z]{26}", response.headers["X-Request-ID"])

    @pytest.mark.parametrize(
        "given",
        [
            "4111111111111111",
            "4111-1111-1111-1111",
            "order_378282246310005",
            "ask_test_0123abcd_" + "x" * 43,
            "ask_live_0123abcd",
            "key.ask_test_0123abcd_aB3",
            "eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCJ9",
            "kid.eyJzdWIiOiJ1c3JfMSJ9.c2ln",
            "Qk3vT-8mXw_Zp5Yd0sLh2RaGcN7bUeJf4iOtVqWx1Ky",
        ],
    )
    async def test_that_is_a_card_number_or_a_secret_is_neither_repeated_nor_logged(
        self, client: httpx.AsyncClient, lines: list[Any], given: str
    ) -> None:
        response = await client.get("/v1/errors/unexpected", headers={"X-Request-ID": given})

        assert re.fullmatch(r"req_[0-9a-z]{26}", response.headers["X-Request-ID"])
        assert given not in response.text + str(response.headers) + str(lines)

    @pytest.mark.parametrize(
        "given",
        [
            "550e8400-e29b-41d4-a716-446655440000",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "1-5759e988-bd862e3fe1be46a994272793",
            "01JD3V7K2M9QRSTVWXYZ012345",
            "req_01jd3v7k2m9qrstvwxyz012345",
            "20261122123045-0001",
            "1767225600000-17",
            "checkout-2026-11-22-order-0000000001-attempt",
            "task_1",
        ],
    )
    async def test_of_other_systems_are_taken_over(self, client: httpx.AsyncClient, given: str) -> None:
        response = await client.get("/v1/things/5", headers={"X-Request-ID": given})

        assert response.headers["X-Request-ID"] == given

    async def test_is_another_one_for_each_request(self, client: httpx.AsyncClient) -> None:
        responses = await asyncio.gather(*(client.get("/v1/things/5") for _ in range(20)))

        assert len({response.headers["X-Request-ID"] for response in responses}) == 20

    async def test_is_in_the_problem_and_in_every_log_line(
        self, client: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        response = await client.get("/v1/errors/unexpected", headers={"X-Request-ID": "req-7"})

        assert response.json()["request_id"] == "req-7"
        assert [(line["event"], line["request_id"], line["service"]) for line in lines] == [
            ("request.failed", "req-7", "tiny"),
            ("request.answered", "req-7", "tiny"),
        ]


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/v1/things/5", "/health", "/nothing", "/v1/errors/unexpected", "/metrics"]
    )
    async def test_are_on_every_answer(self, client: httpx.AsyncClient, path: str) -> None:
        headers = (await client.get(path)).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert headers.get_list("X-Request-ID")

    async def test_leave_a_routes_own_caching_alone_but_not_its_request_id(
        self, client: httpx.AsyncClient
    ) -> None:
        response = await client.get("/v1/cached", headers={"X-Request-ID": "req-7"})

        assert response.headers["Cache-Control"] == "max-age=60"
        assert response.headers.get_list("X-Request-ID") == ["req-7"]


class TestLogLine:
    async def test_is_one_for_each_request_with_facts_and_template(
        self, client: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        await client.get("/v1/things/5?limit=7")

        (line,) = lines
        assert line["ms"] >= 0
        assert {name: line[name] for name in ("event", "method", "route", "status", "limit")} == {
            "event": "request.answered",
            "method": "GET",
            "route": "/v1/things/{thing_id}",
            "status": 200,
            "limit": 7,
        }

    @pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
    async def test_is_not_written_for_what_machines_ask_all_day(
        self, client: httpx.AsyncClient, lines: list[Any], path: str
    ) -> None:
        await client.get(path)

        assert lines == []

    async def test_of_a_method_we_do_not_know_does_not_repeat_it(
        self, client: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        await client.request(CANARY.upper(), f"/{CANARY}")

        (line,) = lines
        assert (line["method"], line["route"], line["status"]) == ("other", "unknown", 404)


class TestMetrics:
    async def test_count_by_template_and_not_by_path(self, client: httpx.AsyncClient) -> None:
        counted = 'assay_http_requests_total{method="GET",route="/v1/things/{thing_id}",status="200"}'
        before = await self.read(client, counted)
        for number in range(3):
            await client.get(f"/v1/things/{number}77")

        after = await self.read(client, counted)

        assert after - before == 3
        assert "/v1/things/177" not in (await client.get("/metrics")).text

    async def test_count_unknown_addresses_and_methods_together(self, client: httpx.AsyncClient) -> None:
        counted = 'assay_http_requests_total{method="other",route="unknown",status="404"}'
        before = await self.read(client, counted)
        for name in ("AAA", "BBB"):
            await client.request(name, f"/{CANARY}/{name}")

        assert await self.read(client, counted) - before == 2
        assert CANARY not in (await client.get("/metrics")).text

    async def test_measure_how_long_it_took(self, client: httpx.AsyncClient) -> None:
        counted = 'assay_http_request_seconds_count{method="GET",route="/v1/cached"}'
        before = await self.read(client, counted)
        await client.get("/v1/cached")

        assert await self.read(client, counted) - before == 1

    async def test_are_in_prometheus_text_format(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/metrics")).headers["Content-Type"].startswith("text/plain; version=")

    @staticmethod
    async def read(client: httpx.AsyncClient, name: str) -> float:
        text = (await client.get("/metrics")).text
        values = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + " ")]
        return values[0] if values else 0.0


class TestOperations:
    async def test_a_living_process_says_so(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/health")

        assert (response.status_code, response.json()) == (200, {"status": "alive"})

    @pytest.mark.parametrize(
        ("checks", "status"),
        [({}, 200), ({"a": True, "b": True}, 200), ({"a": True, "b": False}, 503), ({"a": False}, 503)],
    )
    async def test_readiness_names_every_check(self, checks: dict[str, bool], status: int) -> None:
        async with Tiny(checks=checks).open() as client:
            response = await client.get("/ready")

        assert response.status_code == status
        assert response.json() == {"ready": status == 200, "checks": checks}

    async def test_every_failure_is_documented_in_the_one_shape(self, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()

        responses = [
            (status, response)
            for path in document["paths"].values()
            for operation in path.values()
            for status, response in operation["responses"].items()
            if status.startswith("4")
        ]
        assert responses
        for _, response in responses:
            (shown,) = response["content"].items()
            assert shown[0] == "application/problem+json"
            assert shown[1]["schema"] == {"$ref": "#/components/schemas/Problem"}
            for example in shown[1].get("examples", {}).values():
                assert example["$ref"].rpartition("/")[2] in document["components"]["examples"]
        assert "HTTPValidationError" not in document["components"]["schemas"]


class TestBodyLimit:
    async def test_a_body_of_just_the_limit_is_read(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/length", content=b"a" * BODY_LIMIT)

        assert response.json() == {"length": BODY_LIMIT}

    async def test_a_longer_one_is_refused_by_its_declared_length(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/length", content=b"a" * (BODY_LIMIT + 1))

        assert (
            assert_problem(response, 413, "body-too-large")["detail"]
            == f"At most {BODY_LIMIT} bytes are read."
        )
        assert response.headers["Connection"] == "close"

    async def test_a_chunked_one_is_refused_while_it_is_read(self, client: httpx.AsyncClient) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1
                yield b"a" * 512

        response = await client.post("/v1/length", content=endless())

        assert_problem(response, 413, "body-too-large")
        assert sent == BODY_LIMIT // 512 + 1

    async def test_a_chunked_one_within_the_limit_arrives_whole(self, client: httpx.AsyncClient) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(10):
                yield bytes([number]) * 10

        response = await client.post("/v1/length", content=pieces())

        assert response.json() == {"length": 100}

    @pytest.mark.parametrize("declared", ["-1", "+5", "abc", "9" * 5000, "٥", "0x10"])
    async def test_an_odd_length_is_not_believed(self, client: httpx.AsyncClient, declared: str) -> None:
        response = await client.post(
            "/v1/length", content=b"a" * 10, headers=[(b"Content-Length", declared.encode())]
        )

        assert response.status_code in {200, 413}

    async def test_is_as_high_as_the_service_sets_it(self) -> None:
        settings = ServiceSettings(max_body_bytes=1024, _env_file=None)
        async with (
            serving_app(Tiny(), settings) as base_url,
            httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S) as client,
        ):
            taken = await client.post("/v1/length", content=b"a" * 1024)
            refused = await client.post("/v1/length", content=b"a" * 1025)

        assert (taken.status_code, refused.status_code) == (200, 413)


@asynccontextmanager
async def serving_app(tiny: Tiny, settings: ServiceSettings) -> AsyncIterator[str]:
    """Serve the application by a real server, with its lifespan."""
    app = create_app(tiny.service, settings)
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        async with serving(with_state) as base_url:
            yield base_url


@pytest.fixture
async def base_url(tiny: Tiny) -> AsyncIterator[str]:
    async with serving_app(tiny, ServiceSettings(max_body_bytes=BODY_LIMIT, _env_file=None)) as url:
        yield url


async def talk(base_url: str, *pieces: bytes) -> bytes:
    """Send `pieces` over one connection and return everything that comes back until it is closed."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE_S):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


class TestOverARealServer:
    async def test_a_chunked_body_that_is_too_long_is_answered_while_it_is_sent(self, base_url: str) -> None:
        head = b"POST /v1/length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"200\r\n" + b"a" * 512 + b"\r\n"

        answer = await talk(base_url, head, *([chunk] * (BODY_LIMIT // 512 + 1)))

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"urn:assay:problem:body-too-large" in answer
        assert b"connection: close" in answer.lower()

    async def test_a_declared_length_that_is_too_long_is_answered_before_it_is_sent(
        self, base_url: str
    ) -> None:
        answer = await talk(
            base_url, b"POST /v1/length HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"
        )

        assert answer.startswith(b"HTTP/1.1 413 ")

    async def test_a_body_within_the_limit_is_read_from_all_its_chunks(self, base_url: str) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"a" * 512

        async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S) as client:
            response = await client.post("/v1/length", content=pieces())

        assert response.json() == {"length": 2048}

    async def test_an_answer_that_fails_halfway_is_cut_off_and_not_completed(self, base_url: str) -> None:
        async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/v1/half")
            again = await client.get("/v1/things/5")

        assert again.status_code == 200

    async def test_an_unexpected_failure_is_a_problem_here_too(self, base_url: str) -> None:
        async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S) as client:
            response = await client.get("/v1/errors/unexpected")

        assert_problem(response, 500, "internal")


class TestCancelled:
    async def test_work_is_answered_all_the_same(self, lines: list[Any]) -> None:
        answered: list[Message] = []

        async def send(message: Message) -> None:
            answered.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def cancelled(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise asyncio.CancelledError

        scope = {"type": "http", "method": "GET", "path": "/v1/things/5", "headers": [], "state": {}}
        scope["state"] = {"max_body_bytes": BODY_LIMIT}
        with pytest.raises(asyncio.CancelledError):
            await RequestMiddleware(cancelled)(scope, receive, send)

        headers = dict(answered[0]["headers"])
        assert answered[0]["status"] == 503
        assert headers[b"retry-after"] == b"1"
        assert headers[b"content-type"] == b"application/problem+json"
        assert [(line["event"], line["status"]) for line in lines] == [("request.answered", 503)]


class TestDisconnect:
    @pytest.mark.parametrize("first", [None, b"half"])
    async def test_during_the_body_is_no_failure_of_ours(
        self, tiny: Tiny, client: httpx.AsyncClient, lines: list[Any], first: bytes | None
    ) -> None:
        messages: list[Message] = [{"type": "http.disconnect"}]
        if first is not None:
            messages.insert(0, {"type": "http.request", "body": first, "more_body": True})
        answered: list[Message] = []

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            answered.append(message)

        async def never_reached(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise AssertionError("an incomplete body reached the application")

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/length",
            "headers": [(b"content-length", b"100")],
            "state": {"max_body_bytes": BODY_LIMIT},
        }
        await RequestMiddleware(never_reached)(scope, receive, send)

        assert answered == []
        assert [(line["event"], line["status"]) for line in lines] == [("request.answered", 499)]

    async def test_over_a_real_server_leaves_it_working(
        self, base_url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        host, _, port = base_url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/length HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with (
            httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S) as client,
            asyncio.timeout(PATIENCE_S),
        ):
            response = await client.get("/v1/things/5")
            printed = capsys.readouterr().out
            while '"status":499' not in printed:
                await asyncio.sleep(0.01)
                printed += capsys.readouterr().out

        assert response.status_code == 200
        assert "request.failed" not in printed


class TestOtherTraffic:
    async def test_passes_through(self) -> None:
        seen: list[str] = []

        async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(scope["type"])

        async def nothing(*_: Any) -> Any:  # noqa: ANN401 - never called
            raise AssertionError

        await RequestMiddleware(app)({"type": "websocket"}, nothing, nothing)

        assert seen == ["websocket"]
