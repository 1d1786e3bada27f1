"""A TCP proxy that misbehaves on demand. Another fault applies at once, to running connections too."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.faults.faults import PASS, Fault, Mode

LOOPBACK = "127.0.0.1"
CHUNK = 65_536
FIRST_BYTES_S = 0.2  # an impostor waits so long for a client that speaks first; mail clients do not
REQUEST_S = 0.5
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Listens on `port` (0: a free one) and passes everything to `target`, as `fault` lets it."""

    def __init__(self, target: tuple[str, int], *, port: int = 0, seed: int = 0) -> None:
        self.target = target
        self.port = port
        self.fault: Fault = PASS
        self.accepted = 0
        self.changed = asyncio.Event()
        self.random = random.Random(seed)  # noqa: S311 - spreads delays, guards nothing
        self._listener: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}

    @property
    def open_connections(self) -> int:
        """Return how many connections are held now."""
        return len(self._connections)

    async def start(self) -> None:
        """Begin to listen."""
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._accept, LOOPBACK, self.port, reuse_address=True, limit=CHUNK
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    async def set(self, fault: Fault) -> None:
        """Do `fault` from now on."""
        self.fault = fault
        self.changed.set()  # who waits for a change looks again, and takes the new event
        self.changed = asyncio.Event()
        if fault.mode is Mode.REFUSE:
            self._stop_listening()
        else:
            await self.start()
        if fault.mode is Mode.REFUSE or (fault.mode is Mode.RESET and not fault.after_bytes):
            for connection in list(self._connections):
                connection.reset()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        self._stop_listening()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, reader, writer, number=self.accepted)
        task = self._connections[connection] = asyncio.create_task(connection.serve())
        task.add_done_callback(lambda _done: self._connections.pop(connection, None))


class _Connection:
    """One client, and its connection to the target once there is one."""

    def __init__(
        self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, number: int
    ) -> None:
        self._proxy = proxy
        self._client_reader, self._client = reader, writer
        self._target: asyncio.StreamWriter | None = None
        self._number = number
        self._counted_for: Fault = proxy.fault
        self._counted = 0
        self._answered = True

    def reset(self) -> None:
        """End both sides with a reset."""
        for writer in (self._client, self._target):
            if writer is not None:
                _reset(writer)

    async def serve(self) -> None:
        try:
            await self._serve()
        except (OSError, EOFError):
            self.reset()
        finally:
            for writer in (self._client, self._target):
                if writer is not None:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()

    async def _serve(self) -> None:
        fault = await self._ruling()
        if fault.mode is Mode.RESET and not fault.after_bytes:
            self.reset()
        elif fault.mode is Mode.ANSWER:
            await self._pretend(fault, await self._read_within(FIRST_BYTES_S))
        else:
            target_reader, self._target = await asyncio.open_connection(*self._proxy.target, limit=CHUNK)
            ways = [
                asyncio.create_task(self._pass_requests()),
                asyncio.create_task(self._pass_answers(target_reader)),
            ]
            await _first_end(ways)

    async def _ruling(self) -> Fault:
        """Return the fault that holds now; a silent one is waited out."""
        while (fault := self._proxy.fault).mode is Mode.SILENT:
            await self._proxy.changed.wait()
        if fault is not self._counted_for:
            self._counted_for, self._counted = fault, 0
        return fault

    async def _pass_requests(self) -> None:
        """Pass on what the client sends; returns when the connection is to end."""
        assert self._target is not None
        while True:
            data = await self._client_reader.read(CHUNK)
            fault = await self._ruling()
            if fault.mode is Mode.SLOW and self._answered:
                self._answered = False
                await self._dawdle(fault)
                fault = await self._ruling()
            if not data:
                with suppress(OSError):
                    self._target.write_eof()
                await asyncio.Event().wait()  # the answer may still be on its way; its end ends both
            if fault.mode is Mode.ANSWER:
                await self._pretend(fault, data)
                return
            if not await self._forward(self._target, data, fault, limited=fault.mode is Mode.CUT_REQUEST):
                return

    async def _pass_answers(self, target: asyncio.StreamReader) -> None:
        """Pass on what the target answers; returns when the connection is to end."""
        while True:
            data = await target.read(CHUNK)
            fault = await self._ruling()
            if not data:
                return
            if fault.mode is Mode.ANSWER:
                await self._pretend(fault, b"")
                return
            limited = fault.mode is Mode.CUT_ANSWER or (fault.mode is Mode.RESET and fault.after_bytes > 0)
            if not await self._forward(self._client, data, fault, limited=limited):
                if fault.mode is Mode.RESET:
                    self.reset()
                return
            self._answered = True

    async def _forward(
        self, writer: asyncio.StreamWriter, data: bytes, fault: Fault, *, limited: bool
    ) -> bool:
        """Write `data`, or as much of it as the fault lets through; return whether that was all."""
        if limited:
            data = data[: fault.after_bytes - self._counted]
            self._counted += len(data)
        writer.write(data)
        await writer.drain()
        return not limited or self._counted < fault.after_bytes

    async def _pretend(self, fault: Fault, begun: bytes) -> None:
        """Take the request whose first bytes are `begun`, and answer in the target's place."""
        await self._rest_of_request(begun)
        self._client.write(fault.answers[self._number % len(fault.answers)])
        with suppress(OSError):
            await self._client.drain()
            self._client.write_eof()  # closing with a part of the request unread would take the answer back
        await self._read_within(FIRST_BYTES_S)

    async def _rest_of_request(self, begun: bytes) -> None:
        head, _, body = begun.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length" and value.strip().isdigit() and b"100-continue" not in head:
                missing = int(value) - len(body)
                with suppress(TimeoutError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(REQUEST_S):
                        await self._client_reader.readexactly(max(0, missing))

    async def _read_within(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self._client_reader.read(CHUNK)
        except TimeoutError:
            return b""

    async def _dawdle(self, fault: Fault) -> None:
        """Wait as long as a slow exchange takes, or until the fault is another one."""
        seconds = fault.delay_s + self._proxy.random.uniform(-fault.jitter_s, fault.jitter_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._proxy.changed.wait()


@asynccontextmanager
async def fault_proxy(target: tuple[str, int]) -> AsyncIterator[FaultProxy]:
    """Run a proxy in this event loop while the block runs."""
    proxy = FaultProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


async def _first_end(ways: list[asyncio.Task[None]]) -> None:
    """Wait until one way has ended, and end the other."""
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in ways:
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("socket")
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
