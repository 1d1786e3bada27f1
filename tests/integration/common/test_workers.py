"""Several processes that serve one port: what they share out, count together, and how they end."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers import free_port
from tests.waiting import eventually

PROJECT = Path(__file__).parents[3]
TIMEOUT_S = 90  # processes start in it, on whatever machine
SETTINGS = {
    "PYTHONPATH": str(PROJECT),
    "UNAUTHENTICATED_PER_MINUTE": "1000000",
}
SERVICE = """\
import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter
from prometheus_client import Counter, Gauge
from pydantic import Field

from common.app import Service
from common.errors import StartupError
from common.metrics import follow
from common.serve import serve
from common.settings import ServiceSettings

HITS = Counter("tiny_hits_total", "Hits.")
RUNNING = Gauge("tiny_running", "What runs.", multiprocess_mode="livesum")
HELD = Gauge("tiny_held", "What each holds.", multiprocess_mode="livesum")
router = APIRouter()


class TinySettings(ServiceSettings):
    alone: bool = Field(False, description="whether it has to be one process")
    refuse_if: Path = Field(Path("never"), description="a file that keeps it from starting")

    def why_one_process(self):
        return "there is one of me" if self.alone else None


@router.get("/v1/hit")
async def hit() -> int:
    HITS.inc()
    return os.getpid()


@router.get("/v1/slow")
async def slow() -> int:
    Path("begun").touch()
    await asyncio.sleep(1)
    return os.getpid()


@asynccontextmanager
async def build(settings):
    if settings.refuse_if.exists():
        raise StartupError("the file is there")
    RUNNING.set(1)
    follow(HELD, lambda: 7)
    yield {"readiness": {}}


if __name__ == "__main__":
    serve(Service("tiny_service", "A service for tests.", TinySettings, build, [router]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny_service.py").write_text(SERVICE)
    return tmp_path


class Workers:
    """A supervisor, and those who call the port of its workers."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            timeout=TIMEOUT_S,
            trust_env=False,
            headers={"Connection": "close"},
        )

    async def get(self, path: str) -> httpx.Response:
        """Get `path` over a connection of its own."""
        return await self.client.get(path)

    async def pids(self, *, calls: int = 40) -> Counter[int]:
        """Call on many connections; return which process answered how many."""
        answers = await asyncio.gather(*(self.get("/v1/hit") for _ in range(calls)))
        return Counter(answer.json() for answer in answers)

    async def serving(self, count: int) -> bool:
        """Say whether this many processes answer."""
        try:
            return len(await self.pids()) == count
        except httpx.TransportError:
            assert self.process.returncode is None
            return False

    async def metric(self, name: str) -> float | None:
        """Return one value of the metrics of all."""
        lines = (await self.get("/metrics")).text.splitlines()
        found = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
        return float(found[0]) if found else None

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int | None, str]:
        """Ask all to stop; return the exit code and what was printed."""
        self.process.send_signal(number)
        out, err = await self.process.communicate()
        return self.process.returncode, (out + err).decode()


@asynccontextmanager
async def workers(folder: Path, *flags: str, port: int | None = None) -> AsyncIterator[Workers]:
    chosen = port or free_port()
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tiny_service", "--port", str(chosen), *flags,
        cwd=folder, env={**environment, **SETTINGS},
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S):
            made = Workers(process, chosen)
            async with made.client:
                yield made
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


def are_gone(pids: Sequence[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


class TestTwoWorkers:
    async def test_share_out_connections_and_count_what_both_did(self, folder: Path) -> None:
        async with workers(folder, "--workers", "2") as running:
            await eventually(lambda: running.serving(2), timeout_s=60)
            before = await running.metric("tiny_hits_total")
            answered = await running.pids(calls=40)
            hits = await running.metric("tiny_hits_total")
            gauges = [await running.metric(name) for name in ("tiny_running", "tiny_held")]

        assert len(answered) == 2
        assert before is not None
        assert hits == before + 40
        assert gauges == [2, 14]

    async def test_one_that_is_killed_is_replaced_and_counts_no_more(self, folder: Path) -> None:
        async with workers(folder, "--workers", "2") as running:
            await eventually(lambda: running.serving(2), timeout_s=60)
            victim, other = await running.pids()
            hits = await running.metric("tiny_hits_total")
            os.kill(victim, signal.SIGKILL)
            await eventually(lambda: running.serving(2), timeout_s=60)
            after = set(await running.pids())
            counted = await running.metric("tiny_hits_total")
            alive = await running.metric("tiny_running")

        assert other in after
        assert victim not in after
        assert hits is not None
        assert counted is not None
        assert counted > hits
        assert alive == 2

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_finish_what_runs_when_they_are_stopped(self, folder: Path, number: signal.Signals) -> None:
        async with workers(folder, "--workers", "2") as running:
            await eventually(lambda: running.serving(2), timeout_s=60)
            pids = list(await running.pids())
            slow = asyncio.create_task(running.get("/v1/slow"))
            await eventually(lambda: asyncio.to_thread((folder / "begun").exists))
            code, _ = await running.stop(number)
            answer = await slow

        assert answer.status_code == 200
        assert code == 0
        assert are_gone(pids)

    async def test_stop_when_their_supervisor_is_killed(self, folder: Path) -> None:
        async with workers(folder, "--workers", "2") as running:
            await eventually(lambda: running.serving(2), timeout_s=60)
            pids = list(await running.pids())
            running.process.kill()
            await running.process.wait()

            await eventually(lambda: asyncio.to_thread(are_gone, pids))

    async def test_one_that_cannot_start_again_is_tried_again_while_others_serve(self, folder: Path) -> None:
        async with workers(folder, "--workers", "2", "--refuse-if", "stop-here") as running:
            await eventually(lambda: running.serving(2), timeout_s=60)
            victim, other = await running.pids()
            (folder / "stop-here").touch()
            os.kill(victim, signal.SIGKILL)
            await eventually(lambda: running.serving(1), timeout_s=60)
            alone = set(await running.pids())
            (folder / "stop-here").unlink()
            await eventually(lambda: running.serving(2), timeout_s=60)
            code, printed = await running.stop()

        assert alone == {other}
        assert code == 0
        assert "worker.died" in printed


class TestLogs:
    async def test_that_nobody_reads_hold_up_no_request_and_stay_whole(self, folder: Path) -> None:
        async with workers(folder, "--workers", "2") as running:
            await eventually(lambda: running.serving(2), timeout_s=60)
            before = await running.metric("tiny_hits_total")
            for _ in range(50):
                await running.pids(calls=40)
            hits = await running.metric("tiny_hits_total")
            assert running.process.stdout is not None
            printed = b""
            while (
                printed.count(b'"request.answered"') < 2_000
            ):  # the rest comes although nothing more is logged
                printed += await running.process.stdout.read(1 << 16)
            code, last = await running.stop()

        said = [json.loads(line) for line in (printed.decode() + last).splitlines()]
        assert before is not None
        assert hits == before + 2_000
        assert len(printed) > 300_000  # far more than a pipe holds
        assert sum(line["event"] == "request.answered" for line in said) >= 2_000
        assert code == 0


class TestRefusals:
    async def test_are_said_once_and_end_all(self, folder: Path) -> None:
        (folder / "stop-here").touch()
        async with workers(folder, "--workers", "3", "--refuse-if", "stop-here") as running:
            out, err = await running.process.communicate()

        assert running.process.returncode == 1
        assert err.decode().splitlines() == ["tiny_service cannot start: the file is there"]
        assert out.decode().count("service.refused_to_start") == 1

    async def test_name_why_there_can_be_only_one(self, folder: Path) -> None:
        async with workers(folder, "--workers", "2", "--alone", "true") as running:
            _, err = await running.process.communicate()

        assert running.process.returncode == 1
        assert "WORKERS=2 is refused: there is one of me" in err.decode()

    async def test_name_a_port_that_is_taken(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            async with workers(folder, "--workers", "2", port=port) as running:
                _, err = await running.process.communicate()

        assert running.process.returncode == 1
        assert f"port {port} of 127.0.0.1 cannot be served" in err.decode()

    async def test_a_second_stack_of_workers_does_not_join_the_port_of_the_first(self, folder: Path) -> None:
        port = free_port()
        async with workers(folder, "--workers", "2", port=port) as running:
            await eventually(lambda: running.serving(2), timeout_s=60)
            async with workers(folder, "--workers", "2", port=port) as second:
                await second.process.communicate()

        assert second.process.returncode == 1
