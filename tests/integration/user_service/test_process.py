import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing

import httpx

from common.auth.gate import Expected
from common.auth.keys import PublicKeys, TokenVerifier
from common.auth.service_tokens import ServiceTokens
from common.contracts.tokens import ServiceTokenRequest
from tests.integration.user_service.conftest import ALERT_SECRET, Processes
from user_service.auth.service_clients import SCOPES_BY_CLIENT

PASSWORD = "tide-and-lantern-42"
EMAIL = "ada@harbour.example"


async def register(client: httpx.AsyncClient, *, email: str = EMAIL) -> httpx.Response:
    admin = {"email": email, "password": PASSWORD, "full_name": "Ada Okafor"}
    return await client.post(
        "/v1/institutions",
        json={"name": "Harbour Payments", "mode": "sandbox", "base_currency": "EUR", "admin": admin},
    )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def me(client: httpx.AsyncClient, access_token: str) -> httpx.Response:
    return await client.get("/v1/users/me", headers=bearer(access_token))


async def refresh(client: httpx.AsyncClient, refresh_token: str) -> httpx.Response:
    return await client.post("/v1/auth/refresh", json={"refresh_token": refresh_token})


class TestProcess:
    async def test_keeps_sessions_and_tokens_across_a_restart(self, processes: Processes) -> None:
        async with processes.start() as first:
            await first.until_ready()
            registered = await register(first.client)
            login = await first.client.post("/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
            session = (await refresh(first.client, login.json()["refresh_token"])).json()
            before = await me(first.client, session["access_token"])
            status, printed = await first.stop()

        async with processes.start() as second:
            await second.until_ready()
            after = await me(second.client, session["access_token"])
            renewed = await refresh(second.client, session["refresh_token"])
            second_status, second_printed = await second.stop()

        assert registered.status_code == 201
        assert before.status_code == after.status_code == 200
        assert before.json() == after.json()
        assert renewed.status_code == 200
        assert (status, second_status) == (0, 0)
        for secret in (PASSWORD, EMAIL, session["access_token"], session["refresh_token"]):
            assert secret not in printed + second_printed

    async def test_agrees_on_one_key_with_a_process_started_at_the_same_time(
        self, processes: Processes
    ) -> None:
        async with AsyncExitStack() as stack:
            started = [await stack.enter_async_context(processes.start()) for _ in range(2)]
            await asyncio.gather(*(process.until_ready() for process in started))
            first, second = started

            keys = [(await process.client.get("/.well-known/jwks.json")).json() for process in started]
            registered = await register(first.client)
            seen = await me(second.client, registered.json()["tokens"]["access_token"])

        assert keys[0] == keys[1]
        assert len(keys[0]["keys"]) == 1
        assert seen.status_code == 200

    async def test_gives_the_other_services_what_they_ask_for(self, processes: Processes) -> None:
        """The clients every service uses are pointed at the real thing."""
        async with processes.start() as running:
            await running.until_ready()
            keys = PublicKeys(running.client)
            verifier = TokenVerifier(keys, expected=Expected(issuer="assay", audience="assay"))
            credentials = ServiceTokenRequest.model_validate(
                {"client_id": "alert_service", "client_secret": ALERT_SECRET}
            )
            tokens = ServiceTokens(running.client, credentials=credentials)
            registered = (await register(running.client)).json()

            renewed = await tokens.renew()
            principal = await verifier.verify(tokens.header()["Authorization"].removeprefix("Bearer "))
            recipients = await running.client.get(
                f"/v1/internal/institutions/{registered['institution_id']}/recipients",
                headers=tokens.header(),
            )

        assert renewed
        assert principal.scopes == {scope.value for scope in SCOPES_BY_CLIENT["alert_service"]}
        assert recipients.json()["emails"] == [EMAIL]

    async def test_says_in_one_line_that_the_passphrase_is_another(self, processes: Processes) -> None:
        async with processes.start() as first:
            await first.until_ready()
            await first.stop()

        async with processes.start(SIGNING_KEY_PASSPHRASE="another passphrase") as second:
            async with asyncio.timeout(30):
                printed, complaints = await second.process.communicate()

        assert second.process.returncode == 1
        assert complaints.startswith(
            b"user_service cannot start: the signing key in the database does not open"
        )
        assert len(complaints.splitlines()) == 1
        assert b"another passphrase" not in printed + complaints

    async def test_does_not_start_with_placeholders_in_production(self, processes: Processes) -> None:
        async with processes.start(ENVIRONMENT="production", SIGNING_KEY_PASSPHRASE="change-me") as started:
            async with asyncio.timeout(30):
                _, complaints = await started.process.communicate()

        assert started.process.returncode == 1
        assert b"SIGNING_KEY_PASSPHRASE is a placeholder" in complaints


class TestLockedDatabase:
    """Another process holds SQLite's write lock for longer than the service waits for it."""

    async def test_answers_503_and_recovers(self, processes: Processes) -> None:
        async with processes.start() as running:
            await running.until_ready()
            registered = (await register(running.client)).json()
            token = registered["tokens"]["refresh_token"]
            with closing(sqlite3.connect(processes.database, isolation_level=None)) as holder:
                holder.execute("BEGIN IMMEDIATE")

                answers = await asyncio.gather(
                    register(running.client, email="eve@elsewhere.example"),
                    running.client.post("/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}),
                    refresh(running.client, token),
                    running.client.post("/v1/auth/logout", json={"refresh_token": token}),
                    running.client.patch(
                        "/v1/users/me",
                        headers=bearer(registered["tokens"]["access_token"]),
                        json={"full_name": "Ada Obi"},
                    ),
                )
                read = await me(running.client, registered["tokens"]["access_token"])

                holder.execute("ROLLBACK")
                (institutions,) = holder.execute(
                    "SELECT count(*) FROM institutions WHERE institution_id != 'platform'"
                ).fetchone()
            afterwards = await refresh(running.client, token)
            _, printed = await running.stop()

        assert [answer.status_code for answer in answers] == [503] * 5
        assert {answer.json()["type"] for answer in answers} == {"urn:assay:problem:unavailable"}
        assert all("retry-after" in answer.headers for answer in answers)
        assert (read.status_code, read.json()["full_name"]) == (200, "Ada Okafor")
        assert institutions == 1
        assert afterwards.status_code == 200
        assert "database.failed" in printed
