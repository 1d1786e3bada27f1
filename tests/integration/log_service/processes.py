"""log_service and an S3 server as real processes that can be killed."""

import asyncio
import gzip
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from common.contracts.audit_records import AuditRecord
from tests.api.log_service.harness import BUCKET, Bucket, RunningLogService
from tests.conftest import RunningUserService
from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[3]


class Process:
    """One process that a test started; it ends with the test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def kill(self) -> None:
        """End it without any warning, as a power cut would."""
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """Ask it to end and return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()

    @property
    def pid(self) -> int:
        """Return its number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None


@asynccontextmanager
async def started(
    *arguments: str, log: Path, environment: dict[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run a Python module as a process; what it prints is added to `log`."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
        )
    made = Process(process)
    try:
        yield made
    finally:
        if made.running:
            await made.kill()


@asynccontextmanager
async def s3_process(folder: Path, *, port: int) -> AsyncIterator[Process]:
    """Run an S3 server over `folder` and wait until it answers."""
    async with (
        started("localbucket", str(folder), "--port", str(port), log=folder.with_suffix(".log")) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
    ):
        await eventually(lambda: _answers(client, "/"))
        yield process


@asynccontextmanager
async def log_service_process(
    folder: Path, users: RunningUserService, s3_url: str, *, port: int, **changes: str
) -> AsyncIterator[tuple[Process, RunningLogService]]:
    """Run `python -m log_service` over the database in `folder` and wait until it is ready."""
    environment = {
        "ENVIRONMENT": "test",
        "SETTINGS_FILE": os.devnull,
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{folder}/log_service.db",
        "USER_SERVICE_URL": users.url,
        "S3_ENDPOINT_URL": s3_url,
        "S3_BUCKET": BUCKET,
        "S3_ACCESS_KEY_ID": "test",
        "S3_SECRET_ACCESS_KEY": "test",
        "S3_ADDRESSING_STYLE": "path",
        "S3_CREATE_BUCKET": "true",
        "ARCHIVE_INTERVAL_S": "0.05",
        "ARCHIVE_OBJECT_RECORDS": "50",
        **changes,
    }
    async with (
        started("log_service", log=folder / "log_service.log", environment=environment) as process,
        HttpxAiohttpClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
    ):
        await eventually(lambda: _answers(client, "/ready"))
        yield process, RunningLogService(client, users)


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).status_code == 200
    except httpx.HTTPError:
        return False


async def hand_over_until_done(service: RunningLogService, records: Sequence[AuditRecord]) -> bool:
    """Hand `records` over and return whether that was acknowledged."""
    try:
        return (await service.hand_over(records)).status_code == 202
    except httpx.HTTPError:
        return False


def archived_lines(bucket: Bucket) -> Counter[bytes]:
    """Return how often each body lies in the archive."""
    return Counter(
        line for data in bucket.objects().values() for line in gzip.decompress(data).split(b"\n")[:-1]
    )


def bodies_of(records: Sequence[AuditRecord]) -> Counter[bytes]:
    """Return each record's body once."""
    return Counter(record.body.encode() for record in records)
