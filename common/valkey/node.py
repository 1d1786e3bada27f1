"""One Valkey server: connections that are kept, a deadline for every exchange, and a circuit while it is away."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from libvalkey import pack_command
from prometheus_client import Histogram
from valkey.asyncio.connection import Connection
from valkey.exceptions import ReadOnlyError, ValkeyError

from common.background import end
from common.circuit import Circuit
from common.valkey.address import ValkeyAddress
from common.valkey.connecting import drop, is_alive, make
from common.valkey.errors import ValkeyAwayError

Word = bytes | str | int | float
Command = Sequence[Word]
FAILURES_TO_OPEN: Final = 3
PROBE_S: Final = 0.5
PROBE_TIMEOUT_S: Final = 2.0  # a server that comes back has to let us in first; nobody waits for it
_PING: Final = (("PING",),)
SECONDS = Histogram(
    "assay_valkey_seconds",
    "How long Valkey took for what went out together.",
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
)
_log = structlog.get_logger()


class ValkeyNode:
    """Sends commands over one of its connections and returns what came back.

    While the server is away nothing waits for it: after three exchanges that failed in a row, all are refused at once,
    and a ping of its own, twice a second, finds out when it is back.
    """

    def __init__(self, address: ValkeyAddress, *, timeout_s: float, name: str) -> None:
        self.address = address
        self.circuit = Circuit(name, failures_to_open=FAILURES_TO_OPEN, probe_every_s=0)
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []
        self._opening: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Return a reply for every command, an error where there is one; raises `ValkeyAwayError`."""
        if self.circuit.is_open:
            raise ValkeyAwayError
        began = time.perf_counter()
        try:
            replies = await self._exchange(commands, timeout_s=self._timeout_s)
        except (ValkeyError, OSError, TimeoutError) as error:
            self._failed(error)
            raise ValkeyAwayError from error
        self.circuit.succeeded()
        SECONDS.observe(time.perf_counter() - began)
        return replies

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        await end([task for task in (self._opening, self._probing) if task is not None])
        for connection in self._idle:
            with suppress(ValkeyError, OSError):
                await connection.disconnect()
        self._idle.clear()

    async def _exchange(self, commands: Sequence[Command], *, timeout_s: float) -> list[Any]:
        async with asyncio.timeout(timeout_s):
            connection = await self._connection()
            try:
                replies = await _ask(connection, commands)
            except BaseException:
                drop(connection)
                raise
        if self._closed or any(isinstance(reply, ReadOnlyError) for reply in replies):
            drop(connection)  # it leads to what is a replica now; the name may lead elsewhere
        else:
            self._idle.append(connection)
        return replies

    async def _connection(self) -> Connection:
        """Return a connection that is alive; one that takes long goes on being made for those who come later."""
        while True:
            while self._idle:
                connection = self._idle.pop()
                if is_alive(connection):
                    return connection
                drop(connection)
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._open())
            await asyncio.shield(self._opening)

    async def _open(self) -> None:
        connection = self.address.connection()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await make(connection)
        except BaseException:
            drop(connection)
            raise
        self._idle.append(connection)

    def _failed(self, error: Exception) -> None:
        was_open = self.circuit.is_open
        self.circuit.failed()
        if not was_open:
            _log.warning("valkey.failed", error=type(error).__name__)
        if self.circuit.is_open and not self._closed and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while self.circuit.is_open:
            await asyncio.sleep(PROBE_S)
            self.circuit.admits()
            try:
                await self._exchange(_PING, timeout_s=PROBE_TIMEOUT_S)
            except (ValkeyError, OSError, TimeoutError):
                self.circuit.failed()
            else:
                self.circuit.succeeded()


async def _ask(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    # packed and read by the library's C code: its connections would do both in Python, for each command anew
    packed = b"".join([pack_command(tuple(command)) for command in commands])
    await connection.send_packed_command(packed, check_health=False)
    read = connection._parser.read_response  # type: ignore[attr-defined]  # declared for its asynchronous parsers
    return [await read() for _ in commands]
