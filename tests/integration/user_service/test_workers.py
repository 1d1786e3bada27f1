"""Two real processes of user_service on one port: a new signing key is everybody's within seconds."""

import asyncio
import os
import sys

import httpx

from tests.integration.user_service.conftest import PASSPHRASE, Processes, RunningProcess
from tests.integration.user_service.test_process import EMAIL, PASSWORD, bearer, register
from tests.waiting import eventually

TIMEOUT_S = 90
CALLS = 16  # over connections of their own: both workers answer some of them


async def asked(
    running: RunningProcess, path: str, headers: dict[str, str] | None = None
) -> list[httpx.Response]:
    """Get `path` from both workers."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(base_url=running.client.base_url, timeout=30, trust_env=False) as client:
            return await client.get(path, headers=headers)

    return await asyncio.gather(*(ask() for _ in range(CALLS)))


async def key_ids(running: RunningProcess) -> set[str]:
    """Return every key that anybody publishes."""
    answers = await asked(running, "/.well-known/jwks.json")
    return {key["kid"] for answer in answers for key in answer.json()["keys"]}


async def rotate_at_once(database_url: str) -> str:
    """Run the command for a stolen key; return the new one's id."""
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "user_service.rotate_signing_key", "--now",
        env={
            "PATH": os.environ["PATH"],
            "SETTINGS_FILE": os.devnull,
            "DATABASE_URL": database_url,
            "SIGNING_KEY_PASSPHRASE": PASSPHRASE,
        },
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await made.communicate()
    assert made.returncode == 0
    return printed.decode().split()[2]


class TestTwoWorkers:
    async def test_agree_on_a_new_signing_key_and_on_what_it_signs(
        self, processes: Processes, postgres_url: str, valkey_url: str
    ) -> None:
        shared = {"WORKERS": "2", "DATABASE_URL": postgres_url, "VALKEY_URL": valkey_url}
        person = {"email": EMAIL, "password": PASSWORD}
        async with asyncio.timeout(TIMEOUT_S), processes.start(**shared) as running:
            await running.until_ready()
            await eventually(lambda: _both_serve(running), timeout_s=60)
            registered = await register(running.client)
            before = await key_ids(running)
            new = await rotate_at_once(postgres_url)
            await eventually(lambda: _publish(running, {new}))
            login = await running.client.post("/v1/auth/login", json=person)
            headers = bearer(login.json()["access_token"])
            seen = await asked(running, "/v1/users/me", headers)
            status, printed = await running.stop()

        assert registered.status_code == 201, registered.text
        assert len(before) == 1
        assert new not in before
        assert {answer.status_code for answer in seen} == {200}
        assert status == 0
        assert printed.count('"worker.serves"') == 2


async def _both_serve(running: RunningProcess) -> bool:
    lines = (await running.client.get("/metrics")).text.splitlines()
    return "assay_processes 2.0" in lines


async def _publish(running: RunningProcess, wanted: set[str]) -> bool:
    return await key_ids(running) == wanted
