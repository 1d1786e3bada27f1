"""Telling and asking another service: what payers wait for, so it costs as little as it can.

It goes over aiohttp itself. Through httpx the same call takes more than three times the processor time, which is
more than scoring a payment takes (docs/performance.md).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from common.circuit import Circuit
from common.errors import PlatformError
from common.http import CONNECT_S, MAX_ANSWER_BYTES

PIECE_BYTES = 262_144
_ACCEPTED = 202
_UNAUTHENTICATED = "status 401"
_REFUSALS = frozenset({400, 409, 413, 422})


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of telling another service; `error` names the kind of failure, never its content.

    `refused` means that the other side understood and will not take it: telling it again as it is will not help.
    """

    target: str
    delivered: bool
    error: str | None = None
    refused: bool = False


class Courier:
    """Calls one other service over kept connections; every method raises what aiohttp raises, also for too long an answer."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Post JSON `body`; return the status and the body of the answer."""
        content: bytes | AsyncIterator[bytes] = body
        headers = {"Content-Type": "application/json", **headers}
        if len(body) > PIECE_BYTES:  # others get a turn while a long one is sent
            content, headers["Content-Length"] = _pieces(body), str(len(body))
        async with self._session.post(
            self._base_url + path, data=content, headers=headers, allow_redirects=False
        ) as response:
            return response.status, await _whole(response)

    async def get(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        async with self._session.get(
            self._base_url + path, headers=headers, allow_redirects=False
        ) as response:
            return response.status, await _whole(response)


@asynccontextmanager
async def courier(base_url: str, *, timeout_s: float) -> AsyncIterator[Courier]:
    """Yield what calls `base_url`; `timeout_s` bounds each whole call, from connecting to the last byte."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S, timeout_s)),
        connector=aiohttp.TCPConnector(limit=64),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},  # a small compressed answer could be a large one
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield Courier(session, base_url)


async def deliver(
    client: Courier,
    path: str,
    *,
    target: str,
    body: bytes,
    headers: Callable[[], dict[str, str]],
    refused: Callable[[], None] | None = None,
    circuit: Circuit | None = None,
) -> Delivery:
    """Post JSON `body` and report what became of it; never raises for anything the network can do.

    `refused` is called when those headers let nobody in. While `circuit` is open nothing is sent; else it is told how the call went. Closing it is left to somebody who
    has the time to find out.
    """
    if circuit is not None and circuit.is_open:
        return Delivery(target, delivered=False, error="circuit open")
    try:
        all_headers = headers()
    except PlatformError as error:  # nothing is sent, so the circuit learns nothing
        return Delivery(target, delivered=False, error=type(error).__name__)
    delivery = await _posted(client, path, target=target, body=body, headers=all_headers)
    if refused is not None and delivery.error == _UNAUTHENTICATED:
        refused()
    if circuit is not None:
        if delivery.delivered or delivery.refused:
            circuit.succeeded()
        else:
            circuit.failed()
    return delivery


async def _posted(
    client: Courier, path: str, *, target: str, body: bytes, headers: Mapping[str, str]
) -> Delivery:
    try:
        status, answer = await client.post(path, body, headers)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Delivery(target, delivered=False, error=_kind(error))
    if status == _ACCEPTED:
        if not _is_json_object(answer):  # something else than our service answers there
            return Delivery(target, delivered=False, error="unknown answer")
        return Delivery(target, delivered=True)
    return Delivery(target, delivered=False, error=f"status {status}", refused=status in _REFUSALS)


def _kind(error: Exception) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "ConnectTimeout"
    if isinstance(error, asyncio.TimeoutError):
        return "ReadTimeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "ConnectError"
    return "RemoteProtocolError"


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    answer = b""
    async for part in response.content.iter_any():
        answer += part
        if len(answer) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise aiohttp.ClientPayloadError
    return answer


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _is_json_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False
