"""Several processes that serve one port: started, replaced when they die, stopped together.

Each worker has a listening socket of its own on the same port (SO_REUSEPORT), so the kernel spreads connections evenly
and gives none to a worker that is gone or not warm yet. A worker is the same command line once more; its standard
input is a line to its supervisor: it says there that it serves, and stops when the supervisor is gone.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from prometheus_client import multiprocess

from common.errors import StartupError
from common.settings import WORKER_SOCKET, ServiceSettings

CLOSING_S: Final = 15.0  # beyond the requests: what is written at the end
MAX_PAUSE_S: Final = 30.0
LONG_AGO: Final = 10  # failures, after which the pause is the longest anyhow
_SERVES: Final = b"1"
_log = structlog.get_logger()


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker was started with: the socket it serves."""

    listener: socket.socket

    def serve(self, config: uvicorn.Config) -> None:
        """Serve until a signal, or the end of the supervisor, asks to stop; ends with 1 when it cannot start."""
        line = socket.socket(fileno=os.dup(sys.stdin.fileno()))
        threading.Thread(target=_stop_with_supervisor, args=(line,), name="supervisor", daemon=True).start()
        server = _ReportingServer(config, line)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[self.listener])
        if not server.started:
            sys.exit(1)


class _ReportingServer(uvicorn.Server):
    """Says that it serves once it does."""

    def __init__(self, config: uvicorn.Config, line: socket.socket) -> None:
        super().__init__(config)
        self._line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            with suppress(OSError):  # the supervisor is gone, which the other end of the line tells
                self._line.send(_SERVES)


def _stop_with_supervisor(line: socket.socket) -> None:
    with suppress(OSError):
        line.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


class Supervisor:
    """Keeps `settings.workers` processes of one service running.

    The first one starts alone: what it makes (tables, keys, compiled kernels) the others find, and what keeps it from
    starting is said once.
    """

    def __init__(self, settings: ServiceSettings, address: tuple[Any, ...], metrics: Path) -> None:
        self._settings = settings
        self._address = address
        self._metrics = metrics
        self._stopping = asyncio.Event()
        self._first_serves = asyncio.Event()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._serving = 0
        self._code = 0

    async def run(self) -> int:
        """Run until a signal asks to stop; return the exit code: 0 when every worker stopped as it was asked to."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        keeping = [asyncio.create_task(self._keep(index)) for index in range(self._settings.workers)]
        await self._stopping.wait()
        for process in list(self._running.values()):
            with suppress(ProcessLookupError):
                process.terminate()
        _, late = await asyncio.wait(keeping, timeout=self._settings.graceful_shutdown_s + CLOSING_S)
        if late:
            _log.error("workers.killed", workers=len(late))
            for process in list(self._running.values()):
                process.kill()
            await asyncio.wait(late)
            self._code = self._code or 1
        for ended in keeping:
            ended.result()
        return self._code

    async def _keep(self, index: int) -> None:
        """Have one worker running until all are to stop; one that dies again and again is waited for."""
        if index:
            await self._either(self._first_serves)
        failures = 0
        while not self._stopping.is_set():
            code, served = await self._run_one()
            if self._stopping.is_set():
                # one that was asked before it listened to that ends by the signal itself
                self._code = self._code or int(code not in {0, -signal.SIGTERM})
                return
            failures = 0 if served else failures + 1
            _log.error("worker.died", worker=index, code=code, served=served)
            if not served and not self._serving:
                self._code = code if code > 0 else 1
                self._stopping.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    self._stopping.wait(), min(MAX_PAUSE_S, 2.0 ** min(failures, LONG_AGO) - 1)
                )

    async def _run_one(self) -> tuple[int, bool]:
        """Run one process to its end; return its exit code, and whether it ever served."""
        async with self._started() as (process, line):
            served = await asyncio.get_running_loop().sock_recv(line, 1) == _SERVES
            if served:
                _log.info("worker.serves", pid=process.pid)
                self._first_serves.set()
                self._serving += 1
            try:
                return await process.wait(), served
            finally:
                self._serving -= served
                multiprocess.mark_process_dead(process.pid, str(self._metrics))  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[asyncio.subprocess.Process, socket.socket]]:
        line, its_end = socket.socketpair()
        line.setblocking(False)
        with line:
            with its_end, _bound(self._address, shared=True) as listener:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *sys.orig_argv[1:],
                    stdin=its_end.fileno(),
                    pass_fds=[listener.fileno()],
                    env={
                        **os.environ,
                        WORKER_SOCKET: str(listener.fileno()),
                        "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
                    },
                )
            self._running[process.pid] = process
            if self._stopping.is_set():
                process.terminate()
            try:
                yield process, line
            finally:
                del self._running[process.pid]

    async def _either(self, event: asyncio.Event) -> None:
        """Wait for `event`, or until all are to stop."""
        waiting = [asyncio.create_task(each.wait()) for each in (event, self._stopping)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()


def supervise(settings: ServiceSettings) -> int:
    """Serve `settings.port` by `settings.workers` processes; return the exit code, raises `StartupError`."""
    with (
        tempfile.TemporaryDirectory(prefix="assay-metrics-") as folder,
        _claimed(settings.host, settings.port) as claim,
    ):
        _log.info("workers.started", workers=settings.workers, port=claim.getsockname()[1])
        code = asyncio.run(_supervised(settings, claim.getsockname(), Path(folder)))
        _log.info("workers.stopped", code=code)
        return code


async def _supervised(settings: ServiceSettings, address: tuple[Any, ...], metrics: Path) -> int:
    return await Supervisor(settings, address, metrics).run()


def _claimed(host: str, port: int) -> socket.socket:
    """Return a socket that keeps the port ours; raises `StartupError` where somebody else serves it."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
        with _bound(address, shared=False) as alone:
            chosen = alone.getsockname()
        return _bound(chosen, shared=True)
    except OSError as error:
        raise StartupError(f"port {port} of {host} cannot be served: {error.strerror}") from error


def _bound(address: tuple[Any, ...], *, shared: bool) -> socket.socket:
    # asyncio turns off Nagle's algorithm only for sockets that say they are TCP
    family = socket.AF_INET6 if len(address) > 2 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
