"""user_service as a real process with a database file of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers import free_port
from tests.waiting import PATIENCE_S

PASSPHRASE = "a passphrase that is long enough for tests"
NOWHERE = "http://127.0.0.1:9"  # nothing listens there: what is to be told waits
ALERT_SECRET = "a secret of alert_service that is long enough"


@dataclass(frozen=True)
class RunningProcess:
    """A started user_service and a client for it."""

    client: httpx.AsyncClient
    process: asyncio.subprocess.Process

    async def until_ready(self) -> None:
        """Ask until the service is ready; a process that ended fails the test."""
        async with asyncio.timeout(PATIENCE_S):
            while self.process.returncode is None:
                try:
                    if (await self.client.get("/ready")).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.02)
        raise AssertionError(f"the process ended with {self.process.returncode}")

    async def stop(self) -> tuple[int, str]:
        """Ask the process to stop; return its exit status and everything it printed."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            printed, complaints = await self.process.communicate()
        status = self.process.returncode
        assert status is not None
        return status, (printed + complaints).decode()


class Processes:
    """Starts user_service over one database file, as often as a test asks."""

    def __init__(self, database: Path) -> None:
        self.database = database

    @asynccontextmanager
    async def start(self, **settings: str) -> AsyncIterator[RunningProcess]:
        """Start the service and yield at once; it is killed at the end if it still runs."""
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "user_service",
            env={
                **{
                    name: os.environ[name]
                    for name in ("PATH", "COVERAGE_PROCESS_START")
                    if name in os.environ
                },
                "SETTINGS_FILE": os.devnull,
                "PORT": str(port),
                "DATABASE_URL": f"sqlite:///{self.database}",
                "REGISTRATION": "open",
                "SIGNING_KEY_PASSPHRASE": PASSPHRASE,
                "ALERT_SERVICE_SECRET": ALERT_SECRET,
                "ALERT_SERVICE_URL": NOWHERE,
                "LOG_SERVICE_URL": NOWHERE,
                **settings,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        base_url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S, trust_env=False) as client:
                yield RunningProcess(client, process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "users.db")
