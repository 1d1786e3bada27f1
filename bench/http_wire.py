"""Just enough HTTP/1.1 for a client that must cost less than the server it measures."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast


class WireError(Exception):
    """The other side sent something that this client does not read: chunked, or no HTTP at all."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as bytes, and the id by which its answer is looked for later."""

    id: str
    wire: bytes


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """One answer; `head` is in lower case and ends before the empty line."""

    status: int
    head: bytes
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server will close the connection after this answer."""
        return b"\r\nconnection: close" in self.head


class AnswerTaker(Protocol):
    """What a connection reports to."""

    def answered(self, connection: "Connection", answer: WireAnswer) -> None:
        """Take the answer to what was sent last."""

    def lost(self, connection: "Connection") -> None:
        """Hear that the connection is gone; what was sent last gets no answer."""


def post_head(path: str, *, host: str, headers: Mapping[str, str]) -> bytes:
    """Return the first part of a JSON POST; `post` adds the length and the body."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\nContent-Length: "


def post(head: bytes, body: bytes) -> bytes:
    """Return a whole request from `post_head` and a body."""
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)


def read_answer(received: bytes) -> tuple[WireAnswer, bytes] | None:
    """Return the first answer in `received` and what follows it, or None while it is not complete.

    Raises `WireError`.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower()
    if not head.startswith(b"http/1.1 "):
        raise WireError("no HTTP/1.1 answer")
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        raise WireError("an answer without a length")
    line_end = head.find(b"\r\n", start + 2)
    length = int(head[start + 17 : line_end if line_end >= 0 else end])
    body_start = end + 4
    if len(received) < body_start + length:
        return None
    answer = WireAnswer(int(head[9:12]), head, received[body_start : body_start + length])
    return answer, received[body_start + length :]


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, taker: AnswerTaker) -> None:
        self._taker = taker
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.request_index = -1  # what is on its way; -1: nothing

    def send(self, index: int, wire: bytes) -> None:
        """Send one request; its answer is reported to the taker."""
        self.request_index = index
        cast("asyncio.Transport", self._transport).write(wire)

    def close(self) -> None:
        """Close at once; nothing is reported any more."""
        self._taker = _Nobody()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Report the answer once it is complete."""
        self._received = received = self._received + data if self._received else data
        try:
            found = read_answer(received)
        except (WireError, ValueError):
            self._report_lost()
            return
        if found is not None:
            answer, self._received = found
            self._taker.answered(self, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that no answer will come."""
        self._report_lost()

    def _report_lost(self) -> None:
        taker = self._taker
        self.close()
        taker.lost(self)


class _Nobody:
    def answered(self, connection: Connection, answer: WireAnswer) -> None:
        """Hear nothing."""

    def lost(self, connection: Connection) -> None:
        """Hear nothing."""


ConnectionMaker = Callable[[], Connection]
