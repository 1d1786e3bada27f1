"""Starts an ASGI application on a free port of the loopback for as long as a block runs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from tests.waiting import PATIENCE_S

FINISH_S = 1.0


class _Server(uvicorn.Server):
    """uvicorn's server without its pauses of a tenth of a second: thousands of tests would wait for them."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.asked_to_end = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # sets the headers that every answer has
        await self.asked_to_end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in self.servers:
            listening.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody
                    await asyncio.sleep(0.001)
        for task in state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    http: type[asyncio.Protocol] | Literal["auto"] = "auto",
    lifespan: Literal["on", "off"] = "off",
    keep_alive_s: int = 5,
    port: int = 0,
) -> AsyncIterator[str]:
    """Serve `app` in this event loop, over connections of the kind `http`, and yield its base URL.

    `port` is chosen by the system unless it is given.
    """
    # asyncio turns off Nagle's algorithm only for sockets that say they are TCP
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=http,
        lifespan=lifespan,
        timeout_keep_alive=keep_alive_s,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(PATIENCE_S):
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.asked_to_end.set()
        await task
        listener.close()
