"""Nobody waits for each other crosswise: rows are taken in one order, forced to be asked for at the worst moment.

Whoever takes them in another order is ended by PostgreSQL and answers 500, or does work twice.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from common.clock import epoch_ms
from common.db import Database
from tests.api.user_service.appointed import join
from tests.api.user_service.conftest import PASSWORD, Admin, log_in, make_key, refresh, register
from tests.api.user_service.over_postgres import Both, change_rows, holding, queued, rows, until_waiting
from tests.api.user_service.people import NEW_PASSWORD, accept, change, code_of, invite, keys
from tests.waiting import eventually
from user_service.account_work.service import AccountTasks
from user_service.api_keys.configured import ConfiguredKeys
from user_service.api_keys.service import ApiKeys
from user_service.mailed_tokens.texts import token_text
from user_service.settings import UserSettings
from user_service.times import DAY_MS, HOUR_MS

OTHER_PASSWORD = "three quiet quay lanterns"


@pytest.fixture
async def admin(both: Both) -> Admin:
    return await register(both[0])


@pytest.fixture
async def member(both: Both, settings: UserSettings, postgres_url: str, admin: Admin) -> Admin:
    """A second admin of the institution."""
    chosen = settings.model_copy(update={"database_url": SecretStr(postgres_url)})
    return await join(both[0], chosen, "tom@harbour.example", institution_id=admin.institution_id)


@pytest.fixture
def configured(settings: UserSettings, postgres_url: str, admin: Admin) -> UserSettings:
    """Settings that give two keys to the institution."""
    given = {"frontend_api_key": SecretStr("f" * 40), "admin_api_key": SecretStr("g" * 40)}
    owned = {"database_url": SecretStr(postgres_url), "api_keys_institution": admin.institution_id}
    return settings.model_copy(update=given | owned)


@pytest.fixture
async def tasks(both: Both, postgres_url: str) -> AsyncIterator[AccountTasks]:
    """The work of a third process."""
    database = Database(postgres_url)
    yield AccountTasks(database, keep_approvals_ms=400 * DAY_MS)
    await database.engine.dispose()


def without_keys(configured: UserSettings) -> UserSettings:
    return configured.model_copy(update=dict.fromkeys(("frontend_api_key", "admin_api_key"), SecretStr("")))


async def ensure(configured: UserSettings) -> None:
    """Do what a start does about the keys in its settings."""
    database = Database(configured.database_url)
    try:
        await ConfiguredKeys(database, ApiKeys(keys().api_keys), configured).ensure(now_ms=epoch_ms())
    finally:
        await database.engine.dispose()


async def mailed_token(url: str, purpose: str) -> str:
    async def there() -> list[tuple[Any, ...]]:
        return rows(url, "SELECT token_id FROM mailed_tokens WHERE purpose = %s", purpose)

    ((token_id,),) = await eventually(there)
    return token_text(keys().mailed_tokens, token_id)


async def recovery_code(client: httpx.AsyncClient, person: Admin) -> str:
    """Turn a second factor on and return one of its recovery codes."""
    path = "/v1/users/me/second-factor"
    begun = await client.post(path, headers=person.headers, json={"current_password": PASSWORD})
    body = {"code": code_of(begun.json()["secret"])}
    confirmed = await client.post(f"{path}/confirm", headers=person.headers, json=body)
    return str(confirmed.json()["recovery_codes"][0])


def ended_keys(url: str) -> list[str]:
    """Return the ids of the keys whose end was recorded, once for each time."""
    found = rows(url, "SELECT body FROM identity_events WHERE action = 'api_key.revoked'")
    return [json.loads(bytes(body))["event"]["subject"]["id"] for (body,) in found]


class TestSessions:
    async def test_are_taken_away_while_one_is_refreshed_that_clears_up_an_expired_one(
        self, both: Both, postgres_url: str, admin: Admin, member: Admin
    ) -> None:
        live = f"SELECT session_id FROM sessions WHERE user_id = '{member.user_id}'"  # noqa: S608 - an id of ours
        ((live_id,),) = rows(postgres_url, live)
        await log_in(both[0], member)
        expired = f"user_id = '{member.user_id}' AND session_id <> '{live_id}'"
        past = "expires_at_ms = 1, access_expires_at_ms = 1"
        change_rows(postgres_url, f"UPDATE sessions SET {past} WHERE {expired}")  # noqa: S608 - ids of ours

        refreshed, ended = await queued(
            postgres_url,
            refresh(both[0], member.refresh_token),
            both[1].delete(f"/v1/users/{member.user_id}/sessions", headers=admin.headers),
            table="sessions",
            which=expired,
        )

        assert (refreshed.status_code, ended.status_code) == (200, 204)
        assert rows(postgres_url, f"{live} AND ended_at_ms IS NULL") == []


class TestMailedTokens:
    async def test_are_spent_by_a_new_password_before_they_choose_another(
        self, both: Both, postgres_url: str, admin: Admin
    ) -> None:
        await both[0].post("/v1/auth/password-resets", json={"email": admin.email})
        token = await mailed_token(postgres_url, "password_reset")
        body = {"password": NEW_PASSWORD, "current_password": PASSWORD}

        changed, reset = await queued(
            postgres_url,
            both[0].patch("/v1/users/me", headers=admin.headers, json=body),
            both[1].post(
                "/v1/auth/password-resets/confirm", json={"token": token, "password": OTHER_PASSWORD}
            ),
            table="users",
            which=f"user_id = '{admin.user_id}'",
        )

        assert (changed.status_code, reset.status_code) == (200, 401)
        assert (await log_in(both[0], admin, password=NEW_PASSWORD)).status_code == 200

    async def test_let_nobody_in_whose_invitation_is_taken_back_at_that_moment(
        self, both: Both, postgres_url: str, admin: Admin, tasks: AccountTasks
    ) -> None:
        invited = await invite(both[0], admin)
        token = await mailed_token(postgres_url, "invitation")
        expired_just_now = epoch_ms() + 7 * DAY_MS + HOUR_MS

        _, accepted = await queued(
            postgres_url,
            tasks.forget_old(now_ms=expired_just_now),
            accept(both[1], token),
            table="users",
            which=f"user_id = '{invited.json()['user_id']}'",
        )

        assert accepted.status_code == 401
        assert rows(postgres_url, "SELECT user_id FROM users") == [(admin.user_id,)]


class TestSecondFactors:
    async def test_are_removed_before_a_recovery_code_lets_anybody_in(
        self, both: Both, postgres_url: str, admin: Admin, member: Admin
    ) -> None:
        code = await recovery_code(both[0], member)
        body = {"email": member.email, "password": PASSWORD, "code": code}

        removed, login = await queued(
            postgres_url,
            both[0].delete(f"/v1/users/{member.user_id}/second-factor", headers=admin.headers),
            both[1].post("/v1/auth/login", json=body),
            table="users",
            which=f"user_id = '{member.user_id}'",
        )

        assert (removed.status_code, login.status_code) == (204, 401)
        assert rows(postgres_url, "SELECT count(*) FROM recovery_codes") == [(0,)]


class TestForgetting:
    @pytest.mark.parametrize(
        ("table", "name", "row"),
        [
            ("mail_counts", "whom", "'role_changed', name, 1, 1"),
            ("mailed_tokens", "token_id", "name, user_id, 'password_reset', 1, 1, NULL"),
        ],
    )
    async def test_passes_by_what_somebody_holds(
        self, postgres_url: str, admin: Admin, tasks: AccountTasks, table: str, name: str, row: str
    ) -> None:
        old = f"SELECT {row} FROM users, unnest(ARRAY['first', 'held', 'last']) AS name"  # noqa: S608 - our words
        change_rows(postgres_url, f"INSERT INTO {table} {old}")

        async with holding(postgres_url, table, f"{name} = 'held'"), asyncio.timeout(20):
            await tasks.forget_old(now_ms=epoch_ms())

        assert rows(postgres_url, f"SELECT {name} FROM {table}") == [("held",)]  # noqa: S608 - our words


class TestKeysOfTheSettings:
    async def test_end_at_a_start_while_a_person_revokes_one(
        self,
        both: Both,
        postgres_url: str,
        configured: UserSettings,
        admin: Admin,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        await ensure(configured)
        found = rows(postgres_url, "SELECT key_id FROM api_keys ORDER BY created_by DESC")
        frontend, of_admin = (key_id for (key_id,) in found)

        revoked, _ = await queued(
            postgres_url,
            both[1].delete(f"/v1/api-keys/{of_admin}", headers=admin.headers),
            ensure(without_keys(configured)),
            table="api_keys",
            which=f"key_id = '{of_admin}'",
        )

        assert revoked.status_code == 204
        assert ended_keys(postgres_url) == [of_admin, frontend]
        assert "configured_keys.tried_again" not in capsys.readouterr().out

    async def test_end_with_a_second_try_where_the_first_lost_a_race(
        self, both: Both, postgres_url: str, configured: UserSettings
    ) -> None:
        await ensure(configured)

        async with holding(postgres_url, "api_keys", "true"):
            starting = asyncio.create_task(ensure(without_keys(configured)))
            (lost,) = await until_waiting(postgres_url, 1)
            rows(postgres_url, f"SELECT pg_cancel_backend({lost})")
        await starting

        assert len(ended_keys(postgres_url)) == 2


class TestKeysLeftBehind:
    async def test_that_are_revoked_at_that_moment_are_not_revoked_once_more(
        self, both: Both, postgres_url: str, admin: Admin, member: Admin
    ) -> None:
        first, second = [(await make_key(both[0], member))["key_id"] for _ in range(2)]

        revoked, disabled = await queued(
            postgres_url,
            both[0].delete(f"/v1/api-keys/{first}", headers=admin.headers),
            change(both[1], admin, member.user_id, disabled=True, revoke_api_keys=True),
            table="api_keys",
            which=f"key_id = '{first}'",
        )

        assert (revoked.status_code, disabled.status_code) == (204, 200)
        assert [key["key_id"] for key in disabled.json()["api_keys"]] == [second]
        assert ended_keys(postgres_url) == [first, second]
