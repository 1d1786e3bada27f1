"""The first operator, and the commands on the machine."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from common.app import create_app
from common.auth.gate import key_id
from tests.api.user_service.appointed import changed, events_of
from tests.api.user_service.conftest import PASSWORD, bearer, problem_type, register, registration
from tests.asgi import open_app_apart
from user_service import rotate_signing_key
from user_service.main import SERVICE
from user_service.operators.__main__ import app as operators
from user_service.settings import UserSettings
from user_service.signing_keys.schedule import LEAD_MS, OVERLAP_MS

FIRST = "first@platform.example"


@pytest.fixture
def machine(settings: UserSettings, monkeypatch: pytest.MonkeyPatch) -> UserSettings:
    """The settings of the service, as commands find them."""
    monkeypatch.setenv("SETTINGS_FILE", "/dev/null")
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("SIGNING_KEY_PASSPHRASE", settings.signing_key_passphrase.get_secret_value())
    return settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(operators, arguments)


def rotate(*arguments: str) -> Result:
    command = typer.Typer()
    command.command()(rotate_signing_key.main)
    return CliRunner().invoke(command, arguments)


def database_of(settings: UserSettings) -> sqlite3.Connection:
    return sqlite3.connect(
        settings.database_url.get_secret_value().removeprefix("sqlite:///"), isolation_level=None
    )


async def accept(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/auth/invitations/accept", json={"token": token, "password": PASSWORD})


async def start_and_stop(settings: UserSettings) -> None:
    async with open_app_apart(create_app(SERVICE, settings)):
        pass


class TestTheFirstOperator:
    async def test_is_invited_by_mail_at_the_first_start_and_not_again(self, settings: UserSettings) -> None:
        chosen = changed(settings, operator_email=FIRST)
        for _ in range(2):
            await start_and_stop(chosen)

        with closing(database_of(settings)) as database:
            notices = database.execute("SELECT body, token_id FROM notices").fetchall()
            users = database.execute(
                "SELECT institution_id, email, role, password_hash FROM users"
            ).fetchall()
            waiting = database.execute("SELECT count(*) FROM outbox WHERE target = 'notices'").fetchone()
            tokens = database.execute(
                "SELECT token_id, purpose, expires_at_ms - created_at_ms FROM mailed_tokens"
            ).fetchall()
            invited = events_of(database, "platform")[-1]
        assert users == [("platform", FIRST, "operator", "")]
        ((body, token_id),) = notices
        assert json.loads(body)["recipients"] == [FIRST]
        assert json.loads(body)["kind"] == "invitation"
        assert waiting == (1,)
        assert tokens == [(token_id, "invitation", 7 * 86_400_000)]
        assert (invited["action"], invited["actor"]["kind"]) == ("user.invited", "system")
        assert FIRST not in json.dumps(invited)

    async def test_is_nobody_unless_an_address_is_set(self, settings: UserSettings) -> None:
        await start_and_stop(settings)

        with closing(database_of(settings)) as database:
            assert database.execute("SELECT count(*) FROM users").fetchone() == (0,)

    async def test_does_not_keep_the_service_from_starting_when_the_address_is_taken(
        self, settings: UserSettings
    ) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            await register(client, email=FIRST)

        await start_and_stop(changed(settings, operator_email=FIRST))

        with closing(database_of(settings)) as database:
            assert database.execute("SELECT role FROM users").fetchall() == [("admin",)]

    @pytest.mark.parametrize("address", ["nobody", "a@b@c", "Name <a@platform.example>"])
    def test_is_an_address_or_nothing(self, settings: UserSettings, address: str) -> None:
        with pytest.raises(ValueError, match="operator_email"):
            changed(settings, operator_email=address)


class TestInvite:
    def test_prints_a_token_once_that_is_stored_nowhere(self, machine: UserSettings) -> None:
        result = run("invite", "--email", FIRST)

        token = result.stdout.splitlines()[-1]
        assert result.exit_code == 0, result.output
        assert "/v1/auth/invitations/accept" in result.stdout
        assert "has the role operator in Platform (platform)" in result.stdout
        raw = Path(machine.database_url.get_secret_value().removeprefix("sqlite:///")).read_bytes()
        assert token.split(".")[0].encode() in raw
        assert token.split(".")[1].encode() not in raw

    def test_works_before_the_service_was_ever_started(
        self, new_settings: UserSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SETTINGS_FILE", "/dev/null")
        monkeypatch.setenv("DATABASE_URL", new_settings.database_url.get_secret_value())
        monkeypatch.setenv("SIGNING_KEY_PASSPHRASE", "another passphrase for this test")

        assert run("invite", "--email", FIRST).exit_code == 0

    def test_makes_no_token_that_the_service_would_not_take(
        self, machine: UserSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIGNING_KEY_PASSPHRASE", "another passphrase altogether")

        result = run("invite", "--email", FIRST)

        assert (result.exit_code, result.stdout) == (1, "")
        assert "does not open with SIGNING_KEY_PASSPHRASE" in result.stderr

    def test_a_second_token_replaces_the_first(self, machine: UserSettings) -> None:
        run("invite", "--email", FIRST)
        again = run("invite", "--email", FIRST.upper())

        assert again.exit_code == 0
        with closing(database_of(machine)) as database:
            assert database.execute("SELECT count(*) FROM users").fetchone() == (1,)
            query = "SELECT count(*) FROM mailed_tokens WHERE used_at_ms IS NULL"
            assert database.execute(query).fetchone() == (1,)

    def test_each_token_is_recorded(self, machine: UserSettings) -> None:
        for _ in range(2):
            run("invite", "--email", FIRST)

        with closing(database_of(machine)) as database:
            (user_id,) = database.execute("SELECT user_id FROM users").fetchone()
            *_, invited, again = events_of(database, "platform")
        for event in (invited, again):
            assert event["action"] == "user.invited"
            assert event["actor"] == {"kind": "system", "id": None}
            assert event["subject"] == {"kind": "user", "id": user_id}
        assert invited["details"] == {"role": "operator"}
        assert again["details"] == {"role": "operator", "again": True}

    @pytest.mark.parametrize("address", ["nobody", "", "Name <a@platform.example>", "a@b.example\n"])
    def test_takes_one_address(self, machine: UserSettings, address: str) -> None:
        assert run("invite", "--email", address).exit_code == 2

    def test_says_in_one_line_which_setting_is_wrong(
        self, machine: UserSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIGNING_KEY_PASSPHRASE", "short")

        result = run("invite", "--email", FIRST)

        assert (result.exit_code, result.stderr) == (
            1,
            "These settings are wrong: SIGNING_KEY_PASSPHRASE\n",
        )


class TestList:
    def test_says_what_to_do_while_there_is_nobody(self, machine: UserSettings) -> None:
        assert "python -m user_service.operators invite" in run("list").stdout

    def test_shows_who_there_is(self, machine: UserSettings) -> None:
        run("invite", "--email", FIRST)

        (line,) = run("list").stdout.splitlines()

        assert line.split()[1:] == ["invited", FIRST]


class TestTokensOfCommands:
    """What a command printed, used over the API; the command runs in a thread, beside the test's own loop."""

    async def test_makes_an_operator(self, machine: UserSettings, client: httpx.AsyncClient) -> None:
        token = (await in_thread(run, "invite", "--email", FIRST)).stdout.splitlines()[-1]

        joined = await accept(client, token)
        again = await accept(client, token)

        headers = bearer(joined.json()["access_token"])
        assert (await client.get("/v1/institutions", headers=headers)).status_code == 200
        assert problem_type(again) == "invalid-mailed-token"

    async def test_makes_an_admin_of_an_institution_that_lost_its_own(
        self, machine: UserSettings, client: httpx.AsyncClient
    ) -> None:
        lost = await register(client)

        result = await in_thread(
            run, "admin", "--institution", lost.institution_id, "--email", "new@harbour.example"
        )

        joined = await accept(client, result.stdout.splitlines()[-1])
        me = await client.get("/v1/users/me", headers=bearer(joined.json()["access_token"]))
        assert me.json()["role"] == "admin"
        assert me.json()["institution"]["institution_id"] == lost.institution_id
        with closing(database_of(machine)) as database:
            invited = [
                event
                for event in events_of(database, lost.institution_id)
                if event["action"] == "user.invited"
            ]
        assert [event["actor"] for event in invited] == [{"kind": "system", "id": None}]

    async def test_makes_one_of_its_own_people_its_admin_and_ends_their_sessions(
        self, machine: UserSettings, client: httpx.AsyncClient
    ) -> None:
        admin = await register(client)
        with closing(database_of(machine)) as database:
            database.execute("UPDATE users SET role = 'viewer', disabled_at_ms = 1")

        result = await in_thread(run, "admin", "--institution", admin.institution_id, "--email", admin.email)

        assert "They have a password already" in result.stdout
        with closing(database_of(machine)) as database:
            assert database.execute("SELECT role, disabled_at_ms FROM users").fetchall() == [("admin", None)]
            actions = [event["action"] for event in events_of(database, admin.institution_id)]
        assert actions[-3:] == ["user.role_changed", "user.enabled", "session.ended"]
        login = await client.post("/v1/auth/login", json={"email": admin.email, "password": PASSWORD})
        assert login.status_code == 200

    async def test_takes_nobody_of_another_institution_and_no_unknown_institution(
        self, machine: UserSettings, client: httpx.AsyncClient
    ) -> None:
        admin = await register(client)
        body = registration(email="eve@quay.example")
        other = (await client.post("/v1/institutions", json=body)).json()["institution_id"]

        results = [
            await in_thread(run, "admin", "--institution", other, "--email", admin.email),
            await in_thread(run, "invite", "--email", admin.email),
            await in_thread(run, "admin", "--institution", "ins_unknown", "--email", FIRST),
        ]

        assert [result.exit_code for result in results] == [1, 1, 1]
        assert results[2].stderr == "There is no such institution.\n"
        assert all(len(result.stderr.splitlines()) == 1 for result in results)


class TestRotateSigningKey:
    def test_says_what_happens_when(self, machine: UserSettings) -> None:
        result = rotate()

        assert result.exit_code == 0, result.output
        with closing(database_of(machine)) as database:
            (old, new) = database.execute(
                "SELECT kid, created_at_ms, signs_from_ms, retired_at_ms FROM signing_keys ORDER BY generation"
            ).fetchall()
            event = events_of(database, "platform")[-1]
        assert new[0] in result.stdout.splitlines()[0]
        assert old[0] in result.stdout.splitlines()[1]
        assert datetime.fromisoformat(result.stdout.splitlines()[1].split("until ")[1].split(".")[0])
        assert (new[2] - new[1], old[3] - new[2]) == (LEAD_MS, OVERLAP_MS)
        assert (event["action"], event["actor"]["kind"]) == ("signing_key.rotated", "system")

    def test_is_refused_while_one_is_under_way_but_not_at_once(self, machine: UserSettings) -> None:
        rotate()

        again = rotate()
        at_once = rotate("--now")

        assert again.exit_code == 1
        assert again.stderr == "The signing key is being rotated already\n"
        assert at_once.exit_code == 0
        assert "every access token" in at_once.stdout
        with closing(database_of(machine)) as database:
            query = "SELECT count(*) FROM signing_keys WHERE retired_at_ms IS NULL"
            assert database.execute(query).fetchone() == (1,)

    async def test_at_once_ends_every_token_of_a_running_service(
        self, machine: UserSettings, client: httpx.AsyncClient
    ) -> None:
        admin = await register(client)
        result = await in_thread(rotate, "--now")

        app = create_app(SERVICE, machine)
        async with open_app_apart(app) as restarted:
            refused = await restarted.get("/v1/users/me", headers=admin.headers)
            renewed = await restarted.post("/v1/auth/refresh", json={"refresh_token": admin.refresh_token})
            taken = await restarted.get("/v1/users/me", headers=bearer(renewed.json()["access_token"]))

        assert refused.status_code == 401
        assert (renewed.status_code, taken.status_code) == (200, 200)
        assert key_id(renewed.json()["access_token"]) in result.stdout

    def test_says_that_the_passphrase_is_another(
        self, machine: UserSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIGNING_KEY_PASSPHRASE", "another passphrase altogether")

        result = rotate()

        assert result.exit_code == 1
        assert "does not open with SIGNING_KEY_PASSPHRASE" in result.stderr


async def in_thread(command: Callable[..., Result], *arguments: str) -> Result:
    return await asyncio.to_thread(command, *arguments)
