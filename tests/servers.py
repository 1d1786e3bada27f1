"""Starts an ASGI application on a free port of the loopback for as long as a block runs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

START_TIMEOUT_S = 10


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
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
