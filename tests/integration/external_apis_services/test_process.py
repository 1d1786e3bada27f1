import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from common.contracts.tokens import Scope
from tests.conftest import RunningUserService
from tests.servers import free_port
from tests.waiting import PATIENCE_S


@asynccontextmanager
async def process(**settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the service as a process that is told nothing but `settings`."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "external_apis_services",
        env={
            **{name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_START") if name in os.environ},
            "SETTINGS_FILE": os.devnull,
            **settings,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def until_ready(client: httpx.AsyncClient, started: asyncio.subprocess.Process) -> None:
    """Ask until the service says that it is ready; a process that has ended fails the test."""
    async with asyncio.timeout(PATIENCE_S):
        while started.returncode is None:
            try:
                if (await client.get("/ready")).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)
    raise AssertionError(f"the process ended with {started.returncode}")


class TestProcess:
    async def test_starts_answers_and_ends_with_zero_when_asked_to_stop(
        self, users: RunningUserService, geoip_data: Path
    ) -> None:
        port = free_port()
        base_url = f"http://127.0.0.1:{port}"
        headers = {
            "Authorization": f"Bearer {users.fake.service_token(Scope.GEOIP_READ, Scope.RATES_READ)}",
            "X-Request-ID": "req_from_a_test",
        }

        async with process(
            PORT=str(port),
            USER_SERVICE_URL=users.url,
            GEOIP_COUNTRY_DB=str(geoip_data / "geo-whois-asn-country.mmdb"),
            GEOIP_ASN_DB=str(geoip_data),
        ) as started:
            async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S, trust_env=False) as client:
                await until_ready(client, started)
                found = await client.get("/v1/internal/geoip/81.2.69.160", headers=headers)
                rates = await client.get("/v1/internal/rates?base_currency=EUR", headers=headers)
            started.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                printed, complaints = await started.communicate()

        assert found.json()["location"]["country"] == "GB"
        assert found.headers["x-request-id"] == "req_from_a_test"
        assert rates.json()["tables"][0]["is_sample"] is True
        assert started.returncode == 0
        assert complaints == b""
        assert b'"request_id":"req_from_a_test"' in printed
        assert b"81.2.69.160" not in printed

    async def test_ends_with_one_and_a_plain_line_when_the_country_file_is_missing(
        self, tmp_path: Path
    ) -> None:
        missing = tmp_path / "countries.mmdb"

        async with process(PORT="0", GEOIP_COUNTRY_DB=str(missing)) as started:
            async with asyncio.timeout(PATIENCE_S):
                _, complaints = await started.communicate()

        last_line = complaints.decode().strip().splitlines()[-1]
        assert started.returncode == 1
        assert last_line.startswith("external_apis_services cannot start: ")
        assert str(missing) in last_line
        assert "python -m external_apis_services.geoip.download" in last_line

    async def test_ends_with_one_and_names_a_setting_that_is_wrong(self) -> None:
        async with process(GEOIP_PROVIDER="guess", MOCK_GEOIP_ERROR_RATE="2") as started:
            async with asyncio.timeout(PATIENCE_S):
                _, complaints = await started.communicate()

        assert started.returncode == 1
        assert b"GEOIP_PROVIDER" in complaints
        assert b"MOCK_GEOIP_ERROR_RATE" in complaints
