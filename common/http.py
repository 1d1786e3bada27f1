"""Calls to other services: one client each, on the aiohttp transport, with the running request's id."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import httpx
from httpx_aiohttp import HttpxAiohttpClient

from common.logging import request_id

CONNECT_S = 0.3
MAX_ANSWER_BYTES = 65_536
_ANSWER_LIMIT = "max_answer_bytes"


def service_client(base_url: str, *, timeout_s: float) -> httpx.AsyncClient:
    """Make the client for one other service; `timeout_s` bounds each whole call, from connecting to the last byte.

    Whatever goes wrong on the way is an `httpx.HTTPError`, and so is an answer of more than 64 KB where the call does
    not name another bound (`extensions=answers_up_to(...)`).
    """
    return _ServiceClient(
        base_url=base_url,
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=64),
        follow_redirects=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity"},  # a small compressed answer could be a large one
        event_hooks={"request": [_add_request_id], "response": [_bound_answer]},
    )


def answers_up_to(max_bytes: int) -> dict[str, Any]:
    """Return the `extensions` of a call whose answer may have `max_bytes`."""
    return {_ANSWER_LIMIT: max_bytes}


class _ServiceClient(HttpxAiohttpClient):
    """Closes two gaps of the transport: a read timeout that any byte restarts, and errors it does not translate."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has them
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                return await super().send(request, **options)
        except TimeoutError as error:
            raise httpx.ReadTimeout("no complete answer in time", request=request) from error
        except httpx.ConnectTimeout as error:
            raise _connection_error(error, request) from error
        except (aiohttp.ClientError, UnicodeError) as error:
            raise httpx.RemoteProtocolError("the answer is not HTTP", request=request) from error


def _connection_error(error: httpx.ConnectTimeout, request: httpx.Request) -> httpx.HTTPError:
    """Tell a refused or broken connection from a slow one; the transport calls all of them timeouts."""
    if isinstance(error.__cause__, aiohttp.ServerTimeoutError):
        return error
    if isinstance(error.__cause__, aiohttp.ClientConnectorError):
        return httpx.ConnectError("no connection", request=request)
    return httpx.RemoteProtocolError("the connection broke", request=request)


class _BoundedStream(httpx.AsyncByteStream):
    """The bytes of an answer, up to a limit; the connection of a longer one is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, *, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._limit
        async for part in self._stream:
            left -= len(part)
            if left < 0:
                raise httpx.RemoteProtocolError("the answer is longer than it may be")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound_answer(response: httpx.Response) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise httpx.DecodingError("the answer is encoded in a way nobody asked for")
    limit = response.request.extensions.get(_ANSWER_LIMIT, MAX_ANSWER_BYTES)
    response.stream = _BoundedStream(cast("httpx.AsyncByteStream", response.stream), limit=limit)


async def _add_request_id(request: httpx.Request) -> None:
    running = request_id()
    if running:
        request.headers["X-Request-ID"] = running
