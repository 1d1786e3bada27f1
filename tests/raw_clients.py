"""Speaks HTTP over a bare connection: what no proper client sends, and byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import orjson

from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class RawAnswer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> str:
        """Return the type of the problem, after checking that it has the one shape of failures."""
        assert self.headers["content-type"] == "application/problem+json"
        fields = orjson.loads(self.body)
        assert fields["status"] == self.status
        assert fields["title"]
        assert fields["request_id"] == self.headers["x-request-id"]
        return str(fields["type"]).removeprefix("urn:assay:problem:")


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send `data` as it is; a server that has closed already does not matter."""
        self.send_now(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    def send_now(self, data: bytes) -> None:
        """Hand `data` to the kernel, or to this connection's buffer, without giving way to anybody."""
        self._writer.write(data)

    async def answer(self) -> RawAnswer:
        """Return the next answer."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return RawAnswer(int(first.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Return what still comes until the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                return await self._reader.read()
        return b""

    async def is_cut_off(self) -> bool:
        """Send a byte, and say whether the server was known to take none any more."""
        await self.send(b"x")
        return self._writer.transport.is_closing()

    def leave(self) -> None:
        """Go away without a word; the kernel resets the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw_client(url: str) -> AsyncIterator[RawClient]:
    """Yield a connection to the server at `url`."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                await writer.wait_closed()


async def sent_whole(url: str, data: bytes) -> bytes:
    """Send all of `data` as many clients do, without a look at what comes back, and return what came until the end."""
    return await asyncio.to_thread(_sent_whole, url, data)


def _sent_whole(url: str, data: bytes) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def request(
    target: str = "/health", *headers: str, method: str = "GET", body: bytes = b"", host: str = "Host: x"
) -> bytes:
    """Return the bytes of a request; a body brings its Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", host, *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([line for line in lines if line]).encode() + b"\r\n\r\n" + body
