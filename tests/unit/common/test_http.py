import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.http import MAX_ANSWER_BYTES, answers_up_to, service_client
from common.logging import leave_request, start_request
from tests.raw_servers import answering, reply
from tests.servers import free_port, serving

SHORT_S = 0.2
LONG_S = 5.0


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    async def echo(request: Request) -> Response:
        return JSONResponse(dict(request.headers))

    async with serving(Starlette(routes=[Route("/", echo)])) as base_url:
        yield base_url


class TestServiceClient:
    @pytest.fixture(autouse=True)
    def no_request(self) -> None:
        leave_request()

    async def test_hands_the_request_id_on(self) -> None:
        async with echoing() as base_url, service_client(base_url, timeout_s=LONG_S) as client:
            start_request("req-7")
            headers = (await client.get("/")).json()

        assert headers["x-request-id"] == "req-7"

    async def test_makes_none_up_outside_a_request(self) -> None:
        async with echoing() as base_url, service_client(base_url, timeout_s=LONG_S) as client:
            headers = (await client.get("/")).json()

        assert "x-request-id" not in headers

    async def test_leaves_proxies_named_by_the_environment_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
        async with echoing() as base_url, service_client(base_url, timeout_s=LONG_S) as client:
            response = await client.get("/")

        assert response.status_code == 200

    @pytest.mark.parametrize(
        "call",
        [
            lambda client: client.get("/"),
            lambda client: client.post("/", json={}),
        ],
    )
    async def test_raises_nothing_but_http_errors(
        self, call: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
    ) -> None:
        async with (
            answering(b"garbage\r\n\r\n") as base_url,
            service_client(base_url, timeout_s=LONG_S) as client,
        ):
            with pytest.raises(httpx.HTTPError) as caught:
                await call(client)

        assert "garbage" not in str(caught.value)

    async def test_an_unreachable_address_is_given_up_soon(self) -> None:
        async def never(_writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with answering(never) as base_url, service_client(base_url, timeout_s=LONG_S) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/", timeout=SHORT_S)

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_takes_an_answer_up_to_its_bound_and_hangs_up_on_a_longer_one(
        self, *, chunked: bool
    ) -> None:
        hung_up = asyncio.Event()

        async def flood(writer: asyncio.StreamWriter) -> None:
            head = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 10000000"
            writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
            try:
                for _ in range(10_000):
                    writer.write(b"3e8\r\n" + b"a" * 1000 + b"\r\n" if chunked else b"a" * 1000)
                    await writer.drain()
            except ConnectionError:
                hung_up.set()

        async with answering(flood) as base_url, service_client(base_url, timeout_s=LONG_S) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/")
            async with asyncio.timeout(LONG_S):
                await hung_up.wait()

    async def test_an_answer_may_be_as_long_as_the_bound(self) -> None:
        async with (
            answering(reply(200, b"b" * MAX_ANSWER_BYTES)) as base_url,
            service_client(base_url, timeout_s=LONG_S) as client,
        ):
            assert len((await client.get("/")).content) == MAX_ANSWER_BYTES

    async def test_a_longer_answer_is_none(self) -> None:
        async with (
            answering(reply(200, b"b" * (MAX_ANSWER_BYTES + 1))) as base_url,
            service_client(base_url, timeout_s=LONG_S) as client,
        ):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/")

    async def test_a_call_may_name_a_bound_of_its_own(self) -> None:
        body = b"a" * (MAX_ANSWER_BYTES + 1)
        async with (
            answering(reply(200, body)) as base_url,
            service_client(base_url, timeout_s=LONG_S) as client,
        ):
            response = await client.get("/", extensions=answers_up_to(len(body)))
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/", extensions=answers_up_to(len(body) - 1))

        assert response.content == body

    async def test_asks_for_plain_answers(self) -> None:
        async with echoing() as base_url, service_client(base_url, timeout_s=LONG_S) as client:
            headers = (await client.get("/")).json()

        assert headers["accept-encoding"] == "identity"
