"""TLS in front of a PostgreSQL of tests, as a pooler in front of a real one offers it.

The server of the wheel is built without TLS. Clients notice no difference: they ask for encryption in PostgreSQL's own
words, check the certificate, and are served by the real server behind. Nobody gets in without.
"""

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLError

from tests.waiting import PATIENCE_S

_TLS, _GSS = 80877103, 80877104  # what a client's first eight bytes ask for


@contextmanager
def tls_in_front(port: int, *, certificate: Path, key: Path) -> Iterator[int]:
    """Yield the port at which the server at `port` is reached over TLS alone."""
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    front = _Front(port, context)
    thread = threading.Thread(target=front.run, daemon=True)
    thread.start()
    try:
        assert front.is_open.wait(PATIENCE_S)
        yield front.port
    finally:
        front.stop()
        thread.join(PATIENCE_S)


class _Front:
    def __init__(self, target: int, context: SSLContext) -> None:
        self.port = 0
        self.is_open = threading.Event()
        self._target, self._context = target, context
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.is_open.set()
        await self._ended.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, SSLError, EOFError, asyncio.CancelledError):
            if await self._is_encrypted(reader, writer):
                answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    await asyncio.gather(_copy(reader, requests), _copy(answers, writer))
                finally:
                    requests.close()
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _is_encrypted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Begin TLS as the client asks; False for one that asks for none."""
        _, wanted = struct.unpack("!II", await reader.readexactly(8))
        if wanted == _GSS:
            writer.write(b"N")
            _, wanted = struct.unpack("!II", await reader.readexactly(8))
        if wanted != _TLS:
            return False
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(self._context)
        return True


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()  # whoever ends ends both ways
