"""Closes a connection so that its last answer arrives although the client is still sending.

A socket that is closed with bytes that nobody read resets the connection, and most clients then lose the answer as well.
So only our own direction is ended at first, and what still comes is read over: for a short time, up to so many bytes, and
on so many connections at once. Beyond that a connection is closed as it is.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LingerLimits:
    """Seconds and bytes for which one connection is read over, and how many connections at once."""

    seconds: float = 2.0
    length: int = 8_388_608
    connections: int = 256


class Lingering:
    """The connections of one server that were answered for the last time and are read over."""

    def __init__(self, limits: LingerLimits) -> None:
        self._limits = limits
        self._ends: dict[LingeringTransport, float] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def admit(self, transport: "LingeringTransport") -> int:
        """Return how many bytes of `transport` may be read over; 0 where there are too many such connections."""
        if len(self._ends) >= self._limits.connections:
            return 0
        self._ends[transport] = asyncio.get_running_loop().time() + self._limits.seconds
        return self._limits.length

    def forget(self, transport: "LingeringTransport") -> None:
        """Make room for another connection."""
        self._ends.pop(transport, None)

    def close_late(self, now: float) -> None:
        """Close those whose time is over."""
        for transport in [each for each, end in self._ends.items() if end <= now]:
            transport.close()


class LingeringTransport(asyncio.Transport):
    """A transport whose `close` lets the answer arrive where `is_unread` says that the client may still be sending."""

    def __init__(
        self, transport: asyncio.Transport, lingering: Lingering, is_unread: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._transport = transport
        self._lingering = lingering
        self._is_unread = is_unread
        self._left = 0
        self.lingers = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, unless the connection is closing: nobody reads that, and uvloop raises."""
        if not self.is_closing():
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Say whether nothing more can be written."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Write what is left to write and close; a connection that lingers is closed without further waiting."""
        if self.is_closing() or not self._is_unread():
            self._end()
            return
        self._left = self._lingering.admit(self)
        if not self._left:
            self._end()
            return
        self.lingers = True
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            with suppress(OSError):  # the client has gone
                self._transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        self._lingering.forget(self)
        self._transport.abort()

    def read_over(self, data: bytes) -> None:
        """Count what came on a connection that lingers, and close it when that is too much."""
        self._left -= len(data)
        if self._left < 0:
            self._end()

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self.is_closing():
            self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's
        """Return what is known about the socket."""
        return self._transport.get_extra_info(name, default)

    def _end(self) -> None:
        self._lingering.forget(self)
        self._transport.close()
