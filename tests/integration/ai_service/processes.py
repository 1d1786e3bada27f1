"""ai_service as a real supervisor with real workers; only the other services are stand-ins of the test."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from tests.conftest import RunningUserService
from tests.factories import SANDBOX, transaction_body
from tests.fakes import institution_access
from tests.integration.log_service.processes import ROOT, Process, started
from tests.servers import free_port
from tests.waiting import PATIENCE_S, eventually


@dataclass
class Workers:
    """Running workers, and those who call their port, each over a connection of its own."""

    process: Process
    url: str
    environment: dict[str, str]
    log: Path
    headers: dict[str, str]
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    async def score(
        self, client: httpx.AsyncClient, transaction_id: str, **changes: object
    ) -> httpx.Response:
        """Score a plain transaction."""
        body = transaction_body(
            **{"event_time": "2026-11-01T10:00:00+00:00", "transaction_id": transaction_id, **changes}
        )
        return await client.post("/v1/score", json=body, headers=self.headers)

    async def get(self, path: str) -> httpx.Response:
        """Get `path` over a new connection, so by whichever process."""
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, trust_env=False) as client:
            return await client.get(path)

    async def metric(self, name: str) -> float:
        """Return one value of what all processes count together, 0 where there is none."""
        lines = (await self.get("/metrics")).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.rsplit(" ", 1)[0] == name)

    def pids(self) -> list[int]:
        """Return the processes that serve now."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(each) for each in found.split()]

    async def command(self, *arguments: str) -> tuple[int | None, str]:
        """Run a module with the settings of the workers."""
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, cwd=ROOT, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            printed, _ = await made.communicate()
        return made.returncode, printed.decode()


@asynccontextmanager
async def ai_workers(
    folder: Path,
    users: RunningUserService,
    targets_url: str,
    *,
    database_url: str,
    valkey_url: str,
    models_dir: Path,
    **changes: str,
) -> AsyncIterator[Workers]:
    """Run `python -m ai_service` with two workers and wait until both are ready and hold connections of ours."""
    users.fake.access.append(institution_access(SANDBOX))
    port = free_port()
    settings = {
        "ENVIRONMENT": "test",
        "SETTINGS_FILE": os.devnull,
        "PORT": str(port),
        "WORKERS": "2",
        "DATABASE_URL": database_url,
        "VALKEY_URL": valkey_url,
        "MODELS_DIR": str(models_dir),
        "VELOCITY_SNAPSHOT": str(folder / "velocity.npz"),
        "USER_SERVICE_URL": users.url,
        "ALERT_SERVICE_URL": targets_url,
        "LOG_SERVICE_URL": targets_url,
        "EXTERNAL_APIS_SERVICES_URL": targets_url,
        "DEADLINE_MS": "10000",
        "GEOIP_TIMEOUT_MS": "1000",
        "DELIVERY_TIMEOUT_MS": "5000",
        **changes,
    }
    log = folder / "ai_service.log"
    headers = {"Authorization": f"Bearer {users.fake.user_token()}"}
    async with started("ai_service", log=log, environment=settings) as process:
        running = Workers(process, f"http://127.0.0.1:{port}", {**os.environ, **settings}, log, headers)
        await eventually(lambda: _all_ready(running), timeout_s=PATIENCE_S)
        running.clients = [
            HttpxAiohttpClient(base_url=running.url, timeout=PATIENCE_S, trust_env=False) for _ in range(16)
        ]
        try:
            yield running
        finally:
            for client in running.clients:
                await client.aclose()


async def _all_ready(running: Workers) -> bool:
    assert running.process.running, running.log.read_text()
    try:
        answers = await asyncio.gather(*(running.get("/ready") for _ in range(12)))
        return (
            all(each.status_code == httpx.codes.OK for each in answers)
            and running.log.read_text().count('"worker.serves"') >= 2
        )
    except httpx.HTTPError:
        return False


def records(found: list[dict[str, Any]]) -> set[str]:
    """Return the ids of archived decisions."""
    return {each["record_id"] for each in found}
