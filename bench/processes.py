"""Servers of the bench's own, each one process on a core of its own choice."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.machine import pin
from local_stack.child import PROJECT
from local_stack.settings import inherited_environment

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
PORTS = range(20_000, 32_000)  # below those that the kernel gives to outgoing connections


@dataclass(frozen=True)
class Server:
    """A process that listens."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"http://{HOST}:{self.port}"


def free_ports(count: int) -> list[int]:
    """Return that many different ports that were free a moment ago."""
    found: list[int] = []
    start = int.from_bytes(os.urandom(2), "big") % len(PORTS)
    for port in (*PORTS[start:], *PORTS[:start]):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
    return found


@contextmanager
def uvicorn_server(app: str, *, core: int, log: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run `app` with one worker of uvicorn, as fast as uvicorn comes; raises `BenchError` when it does not start."""
    (port,) = free_ports(1)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "uvicorn", app, "--host", HOST, "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**inherited_environment(), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await_listening(process, port, log)
        pin(process.pid, core)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(
                f"A server ended with status {process.returncode}; what it said last is in {log}:\n"
                + log.read_text(encoding="utf-8", errors="replace")[-2000:]
            )
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"A server does not listen after {START_TIMEOUT_S:.0f} s; see {log}")
