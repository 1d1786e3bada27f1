"""A service as a process: what it says when it cannot start, and how it stops."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers import free_port
from tests.waiting import PATIENCE_S, eventually

PROJECT = Path(__file__).parents[3]
CANARY = "canary-7391"
SERVICE = """\
import gc
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr

from common.app import Service
from common.errors import StartupError
from common.serve import serve
from common.settings import ServiceSettings


class TinySettings(ServiceSettings):
    other_secret: SecretStr = Field(SecretStr("change-me"), description="a second secret")
    tags: list[str] = Field(default_factory=list, description="a list")
    refuse: str = Field("", description="why not to start")


@asynccontextmanager
async def build(settings):
    if settings.refuse:
        raise StartupError(settings.refuse)
    yield {"readiness": {}}
    print("set aside", gc.get_freeze_count() > 10_000, flush=True)
    print("everything is closed", flush=True)


if __name__ == "__main__":
    serve(Service("tiny_service", "A service for tests.", TinySettings, build, []))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny_service.py").write_text(SERVICE)
    return tmp_path


@asynccontextmanager
async def process(folder: Path, *flags: str, **environment: str) -> AsyncIterator[Process]:
    """Run the service; it is killed at the end if it still runs."""
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_START") if name in os.environ
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tiny_service", *flags,
        cwd=folder, env={**kept, "PYTHONPATH": str(PROJECT), **environment}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def ended(folder: Path, *flags: str, **environment: str) -> tuple[int | None, str, str]:
    """Run the service until it ends by itself; return its code, output and complaints."""
    async with process(folder, *flags, **environment) as started, asyncio.timeout(PATIENCE_S):
        out, err = await started.communicate()
    return started.returncode, out.decode(), err.decode()


class TestRefusals:
    async def test_name_every_wrong_setting_without_its_value(self, folder: Path) -> None:
        code, _, complaints = await ended(folder, PORT=CANARY, LOG_LEVEL=CANARY)

        assert code == 1
        assert complaints.splitlines() == [
            "tiny_service cannot start; these settings are wrong:",
            "  PORT: Input should be a valid integer, unable to parse string as an integer",
            "  LOG_LEVEL: String should match pattern '^(debug|info|warning|error)$'",
        ]

    async def test_name_every_weak_secret_in_production(self, folder: Path) -> None:
        code, _, complaints = await ended(folder, ENVIRONMENT="production", OTHER_SECRET=CANARY)

        assert code == 1
        assert "SERVICE_CLIENT_SECRET is a placeholder" in complaints
        assert "OTHER_SECRET is a placeholder or shorter than 32 characters" in complaints
        assert CANARY not in complaints
        assert "Traceback" not in complaints

    async def test_name_a_list_that_is_no_json(self, folder: Path) -> None:
        code, _, complaints = await ended(folder, TAGS=f"[{CANARY}")

        assert code == 1
        assert 'tiny_service cannot start: error parsing value for field "tags"' in complaints
        assert CANARY not in complaints

    async def test_name_a_settings_file_that_is_not_there(self, folder: Path) -> None:
        code, _, complaints = await ended(folder, SETTINGS_FILE="missing.env")

        assert code == 1
        assert complaints.strip().endswith("SETTINGS_FILE names a file that does not exist: missing.env")

    async def test_explain_the_flags_when_one_is_unknown(self, folder: Path) -> None:
        code, _, complaints = await ended(folder, "--prot", "1")

        assert code == 2
        assert "--graceful-shutdown-s" in complaints

    async def test_say_what_the_service_itself_found(self, folder: Path) -> None:
        code, out, complaints = await ended(folder, "--port", "0", REFUSE="there is no model")

        assert code == 1
        assert complaints.strip() == "tiny_service cannot start: there is no model"
        assert "service.refused_to_start" in out

    async def test_say_that_a_port_is_taken(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            code, out, _ = await ended(folder, "--port", str(taken.getsockname()[1]))

        assert code not in {0, None}
        assert "address already in use" in out


async def answers(started: Process, client: httpx.AsyncClient) -> bool:
    assert started.returncode is None
    try:
        return (await client.get("/health")).status_code == 200
    except httpx.ConnectError:
        return False


def children_of(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


class TestServing:
    @pytest.mark.skipif(sys.platform != "linux", reason="where the children of a process are is Linux's own")
    async def test_is_done_by_one_process_whatever_the_environment_says(self, folder: Path) -> None:
        port = free_port()
        async with (
            process(folder, "--port", str(port), HOST="127.0.0.1", WEB_CONCURRENCY="4") as started,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
            asyncio.timeout(PATIENCE_S),
        ):
            await eventually(lambda: answers(started, client))
            children = children_of(started.pid)

        assert children == ""

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    async def test_flags_go_first_and_a_signal_stops_it_cleanly(
        self, folder: Path, stop: signal.Signals
    ) -> None:
        port = free_port()
        (folder / ".env").write_text("PORT=1\nLOG_LEVEL=error\n")
        async with (
            process(folder, "--port", str(port), HOST="127.0.0.1", PORT="2", LOG_LEVEL="info") as started,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
            asyncio.timeout(PATIENCE_S),
        ):
            await eventually(lambda: answers(started, client))
            missing = await client.get("/nothing", headers={"X-Request-ID": "req-7"})
            started.send_signal(stop)
            out, complaints = (text.decode() for text in await started.communicate())

        assert missing.status_code == 404
        assert "server" not in missing.headers
        assert started.returncode == 0
        assert complaints == ""
        printed = [line for line in out.splitlines() if not line.startswith("{")]
        events = [json.loads(line)["event"] for line in out.splitlines() if line.startswith("{")]
        assert printed == ["set aside True", "everything is closed"]
        assert events == ["service.started", "request.answered", "service.stopped"]
