"""Commands on the machine beside a running service."""

import asyncio
import os
import sys

import httpx
import pytest

from common.auth.gate import key_id
from tests.integration.user_service.conftest import PASSPHRASE, Processes, RunningProcess
from tests.waiting import eventually
from user_service.signing_keys.keeper import REREAD_S

PASSWORD = "tide-and-lantern-42"


async def run(processes: Processes, *command: str) -> str:
    """Run a command on the database of the service; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command,
        env={
            **{name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_START") if name in os.environ},
            "SETTINGS_FILE": os.devnull,
            "DATABASE_URL": f"sqlite:///{processes.database}",
            "SIGNING_KEY_PASSPHRASE": PASSPHRASE,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        printed, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")
    return printed.decode()


async def published(running: RunningProcess) -> list[str]:
    keys = (await running.client.get("/.well-known/jwks.json")).json()["keys"]
    return [key["kid"] for key in keys]


async def join(client: httpx.AsyncClient, token: str) -> str:
    response = await client.post("/v1/auth/invitations/accept", json={"token": token, "password": PASSWORD})
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])


@pytest.mark.slow
class TestCommands:
    async def test_a_running_service_takes_over_a_rotation_without_a_restart(
        self, processes: Processes
    ) -> None:
        async with processes.start() as running:
            await running.until_ready()
            before = await published(running)
            printed = await run(processes, "user_service.rotate_signing_key")

            async def sees_it() -> bool:
                return len(await published(running)) == 2

            await eventually(sees_it, timeout_s=3 * REREAD_S)
            new, old = await published(running)

        assert [old] == before
        assert new in printed.splitlines()[0]
        assert old in printed.splitlines()[1]

    async def test_a_stolen_key_is_worth_nothing_soon_after_its_end(self, processes: Processes) -> None:
        async with processes.start() as running:
            await running.until_ready()
            invited = await run(processes, "user_service.operators", "invite", "--email", "op@p.example")
            token = await join(running.client, invited.splitlines()[-1])
            headers = {"Authorization": f"Bearer {token}"}
            good = await running.client.get("/v1/institutions", headers=headers)
            await run(processes, "user_service.rotate_signing_key", "--now")

            async def is_refused() -> bool:
                return (await running.client.get("/v1/institutions", headers=headers)).status_code == 401

            await eventually(is_refused, timeout_s=3 * REREAD_S)
            keys = await published(running)

        assert good.status_code == 200
        assert len(keys) == 1
        assert keys != [key_id(token)]
