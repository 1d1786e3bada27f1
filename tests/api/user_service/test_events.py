"""What is recorded about people, and what never is."""

import sqlite3

import httpx
import pytest

from tests.api.user_service.conftest import PASSWORD, Admin, log_in, refresh
from tests.api.user_service.people import (
    NEW_PASSWORD,
    add_member,
    add_second_factor,
    change,
    code_of,
    events,
    fail_before,
    invite,
    newest_token,
    notices,
    until_notices,
)

WRONG = "not-the-password-1"


async def live_through_everything(
    client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
) -> list[str]:
    """Let everything happen that can happen to people; return every secret that was in play."""
    await invite(client, admin, email="invited@harbour.example")
    member = await add_member(client, admin, database)
    secrets = [member.access_token, member.refresh_token, newest_token(database, "invitation")]
    await client.patch("/v1/users/me", headers=member.headers, json={"full_name": "Grace Obi"})
    secret, codes = await add_second_factor(client, member, database)
    await client.post("/v1/auth/login", json={"email": member.email, "password": PASSWORD, "code": codes[0]})
    body = {"current_password": PASSWORD, "code": code_of(secret)}
    await client.post("/v1/users/me/second-factor/remove", headers=member.headers, json=body)
    body = {"current_password": PASSWORD, "password": NEW_PASSWORD}
    await client.patch("/v1/users/me", headers=member.headers, json=body)
    await log_in(client, member, password=WRONG)
    fail_before(database, 9)
    await log_in(client, member, password=WRONG)
    await until_notices(database, "account_locked", 1)
    await client.post("/v1/auth/password-resets", json={"email": member.email})
    await until_notices(database, "password_reset", 1)
    token = newest_token(database, "password_reset")
    await client.post(
        "/v1/auth/password-resets/confirm", json={"token": token, "password": "three-gulls-over-a-mole"}
    )
    await change(client, admin, member.user_id, role="viewer")
    await change(client, admin, member.user_id, disabled=True)
    await change(client, admin, member.user_id, disabled=False)
    await refresh(client, admin.refresh_token)
    await refresh(client, admin.refresh_token)
    return [*secrets, secret, *codes, token, PASSWORD, NEW_PASSWORD, WRONG]


class TestEvents:
    async def test_are_recorded_for_everything_that_happens_to_people(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await live_through_everything(client, admin, database)

        assert {event["action"] for event in events(database)} == {
            "institution.registered",
            "user.invited",
            "user.joined",
            "user.name_changed",
            "user.role_changed",
            "user.disabled",
            "user.enabled",
            "second_factor.added",
            "second_factor.removed",
            "recovery_code.used",
            "password.changed",
            "password.reset_asked",
            "password.reset",
            "account.locked",
            "session.started",
            "session.ended",
            "session.ended_by_reuse",
        }

    async def test_are_numbered_without_gaps_and_told_to_the_archive(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await live_through_everything(client, admin, database)

        recorded = events(database)
        told = database.execute("SELECT subject_id FROM outbox WHERE target = 'audit'").fetchall()
        of_the_platform = database.execute(
            "SELECT event_id FROM identity_events WHERE institution_id = 'platform'"
        ).fetchall()
        assert [event["event_sequence"] for event in recorded] == list(range(1, len(recorded) + 1))
        assert {row[0] for row in set(told) - set(of_the_platform)} == {
            event["event_id"] for event in recorded
        }

    async def test_hold_no_secret_no_address_and_no_name(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        secrets = await live_through_everything(client, admin, database)

        bodies = str(events(database))
        printed = "".join(capfd.readouterr())
        metrics = (await client.get("/metrics")).text
        names = ["harbour.example", "Ada", "Okafor", "Grace", "Adeyemi", "Obi"]
        for place in (bodies, printed, metrics):
            assert [text for text in [*secrets, *names] if text in place] == []
        assert "account.locked" in bodies
        assert "attempts.locked" in printed

    async def test_notices_hold_no_secret(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secrets = await live_through_everything(client, admin, database)

        kinds = ("invitation", "password_reset", "account_locked", "security_change")
        kept = str([notices(database, kind) for kind in kinds])
        assert [secret for secret in secrets if secret in kept] == []
        assert [len(notices(database, kind)) for kind in kinds] == [2, 1, 1, 5]
