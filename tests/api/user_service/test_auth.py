import asyncio
import sqlite3
from datetime import datetime

import httpx
import pytest
from argon2 import PasswordHasher
from jose import jwt
from pydantic import SecretStr

from common.app import create_app
from common.clock import epoch_ms
from tests.api.user_service.conftest import (
    AI_SECRET,
    PASSWORD,
    Admin,
    bearer,
    log_in,
    problem_type,
    refresh,
    service_token,
)
from tests.api.user_service.people import events, notices
from tests.asgi import open_app, open_app_apart
from user_service.main import SERVICE
from user_service.settings import UserSettings
from user_service.times import DAY_MS


class TestLogin:
    async def test_starts_a_session(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await log_in(client, admin)

        me = await client.get("/v1/users/me", headers=bearer(response.json()["access_token"]))
        assert response.status_code == 200
        assert me.json()["user_id"] == admin.user_id

    async def test_takes_the_address_in_any_case(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.post(
            "/v1/auth/login", json={"email": "ADA@HARBOUR.example", "password": PASSWORD}
        )

        assert response.status_code == 200

    async def test_answers_alike_whatever_is_wrong(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        wrong_password = await log_in(client, admin, password="not-the-password")
        half_character = await client.post(
            "/v1/auth/login",
            content=b'{"email":"ada@harbour.example","password":"\\ud800"}',
            headers={"Content-Type": "application/json"},
        )
        unknown = await client.post(
            "/v1/auth/login", json={"email": "nobody@harbour.example", "password": PASSWORD}
        )
        database.execute("UPDATE users SET disabled_at_ms = 1")
        disabled = await log_in(client, admin)

        answers = [wrong_password, half_character, unknown, disabled]
        assert [answer.status_code for answer in answers] == [401] * 4
        assert {problem_type(answer) for answer in answers} == {"invalid-credentials"}
        assert len({str({**answer.json(), "request_id": ""}) for answer in answers}) == 1
        assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)

    async def test_replaces_a_hash_by_older_parameters(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
        database.execute("UPDATE users SET password_hash = ?", (old,))

        response = await log_in(client, admin)

        (stored,) = database.execute("SELECT password_hash FROM users").fetchone()
        assert response.status_code == 200
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert (await log_in(client, admin)).status_code == 200

    async def test_sheds_logins_beyond_its_queue(self, settings: UserSettings) -> None:
        tight = settings.model_copy(update={"password_queue": 1})
        async with open_app_apart(create_app(SERVICE, tight)) as client:
            answers = await asyncio.gather(
                *(
                    client.post("/v1/auth/login", json={"email": "a@h.example", "password": PASSWORD})
                    for _ in range(8)
                )
            )

            afterwards = await client.post(
                "/v1/auth/login", json={"email": "a@h.example", "password": PASSWORD}
            )

        shed = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} == {401, 503}
        assert {problem_type(answer) for answer in shed} == {"overloaded"}
        assert all("retry-after" in answer.headers for answer in shed)
        assert afterwards.status_code == 401

    async def test_forgets_sessions_that_expired(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE sessions SET expires_at_ms = 1, access_expires_at_ms = 1")
        database.execute("UPDATE refresh_tokens SET expires_at_ms = 1")

        await log_in(client, admin)

        assert database.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM refresh_tokens").fetchone() == (1,)

    async def test_keeps_sessions_whose_access_token_may_still_be_valid(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE sessions SET expires_at_ms = 1")

        await log_in(client, admin)

        assert database.execute("SELECT count(*) FROM sessions").fetchone() == (2,)


def let_sessions_end_in(left_ms: int, database: sqlite3.Connection) -> int:
    """Make it so that all sessions were started almost 90 days ago; return when they end."""
    end = epoch_ms() + left_ms
    database.execute("UPDATE sessions SET created_at_ms = ?", (end - 90 * DAY_MS,))
    return end


class TestRefresh:
    async def test_replaces_both_tokens(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await refresh(client, admin.refresh_token)

        renewed = response.json()
        me = await client.get("/v1/users/me", headers=bearer(renewed["access_token"]))
        assert response.status_code == 200
        assert renewed["refresh_token"] != admin.refresh_token
        assert renewed["access_token"] != admin.access_token
        assert me.status_code == 200

    async def test_never_reach_beyond_the_end_of_the_session(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        end = let_sessions_end_in(60_000, database)

        renewed = await refresh(client, admin.refresh_token)

        assert renewed.status_code == 200
        ends = database.execute("SELECT max(expires_at_ms) FROM refresh_tokens WHERE used_at_ms IS NULL")
        assert ends.fetchone() == (end,)
        tokens = renewed.json()
        assert jwt.get_unverified_claims(tokens["access_token"])["exp"] * 1000 <= end
        assert 50 <= tokens["expires_in"] <= 60

    async def test_in_the_last_second_of_a_session_are_refused_and_end_nothing(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        let_sessions_end_in(900, database)

        late = [await refresh(client, admin.refresh_token) for _ in range(2)]

        assert [(answer.status_code, problem_type(answer)) for answer in late] == [
            (401, "invalid-refresh-token")
        ] * 2
        assert events(database, "session.ended", "session.ended_by_reuse") == []

    async def test_goes_on_with_the_newest_token(self, client: httpx.AsyncClient, admin: Admin) -> None:
        token = admin.refresh_token

        for _ in range(3):
            token = (await refresh(client, token)).json()["refresh_token"]

        assert (await refresh(client, token)).status_code == 200

    async def test_of_a_used_token_ends_the_session_for_good(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        newest = (await refresh(client, admin.refresh_token)).json()["refresh_token"]

        reused = await refresh(client, admin.refresh_token)

        assert reused.status_code == 401
        assert problem_type(reused) == "invalid-refresh-token"
        assert (await refresh(client, newest)).status_code == 401

    async def test_of_a_used_token_is_told_to_its_owner_once_with_the_address(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await refresh(client, admin.refresh_token)
        told_before = notices(database, "session_reused")

        await refresh(client, admin.refresh_token)
        await refresh(client, admin.refresh_token)

        (notice,) = notices(database, "session_reused")
        assert told_before == []
        assert notice["recipients"] == [admin.email]
        assert notice["facts"] == {
            "institution_name": "Harbour Payments",
            "institution_mode": "sandbox",
            "ip_address": "127.0.0.1",
        }
        (ended,) = events(database, "session.ended_by_reuse")
        assert datetime.fromisoformat(notice["created_at"]) == datetime.fromisoformat(ended["created_at"])

    async def test_of_a_used_token_leaves_other_sessions_alone(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        other = (await log_in(client, admin)).json()["refresh_token"]
        await refresh(client, admin.refresh_token)

        await refresh(client, admin.refresh_token)

        assert (await refresh(client, other)).status_code == 200

    async def test_of_one_token_twenty_times_at_once_gives_one_child(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        answers = await asyncio.gather(*(refresh(client, admin.refresh_token) for _ in range(20)))

        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
        assert database.execute("SELECT count(*) FROM refresh_tokens").fetchone() == (2,)
        assert database.execute("SELECT count(*) FROM sessions WHERE ended_at_ms IS NULL").fetchone() == (0,)

    @pytest.mark.parametrize("column", ["sessions.ended_at_ms", "users.disabled_at_ms"])
    async def test_is_refused_once_the_session_or_the_user_has_ended(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, column: str
    ) -> None:
        table, name = column.split(".")
        database.execute(f"UPDATE {table} SET {name} = 1")  # noqa: S608 - names from this test

        response = await refresh(client, admin.refresh_token)

        assert response.status_code == 401
        assert problem_type(response) == "invalid-refresh-token"

    async def test_of_an_expired_token_is_refused_and_ends_nothing(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE refresh_tokens SET expires_at_ms = 1")

        response = await refresh(client, admin.refresh_token)

        assert response.status_code == 401
        assert database.execute("SELECT ended_at_ms FROM sessions").fetchone() == (None,)

    async def test_takes_the_role_the_user_has_now(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE users SET role = 'viewer'")

        renewed = (await refresh(client, admin.refresh_token)).json()

        me = await client.get("/v1/users/me", headers=bearer(renewed["access_token"]))
        assert me.json()["role"] == "viewer"

    @pytest.mark.parametrize("token", ["unknown", "\u0000", "x" * 256])
    async def test_of_an_unknown_token_is_refused(self, client: httpx.AsyncClient, token: str) -> None:
        response = await refresh(client, token)

        assert response.status_code == 401

    async def test_does_not_take_an_access_token(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await refresh(client, admin.access_token)

        assert response.status_code == 422

    async def test_gives_a_token_no_other_use(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.get("/v1/users/me", headers=bearer(admin.refresh_token))

        assert response.status_code == 401


class TestLogout:
    async def test_ends_the_session(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        assert response.status_code == 204
        assert response.content == b""
        assert (await refresh(client, admin.refresh_token)).status_code == 401

    async def test_with_a_used_token_ends_the_session_too(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        newest = (await refresh(client, admin.refresh_token)).json()["refresh_token"]

        await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        assert (await refresh(client, newest)).status_code == 401

    async def test_may_be_repeated(self, client: httpx.AsyncClient, admin: Admin) -> None:
        await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        response = await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        assert response.status_code == 204


class TestKeys:
    async def test_are_public_and_may_be_kept_for_a_minute(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/.well-known/jwks.json")

        (key,) = response.json()["keys"]
        assert response.headers["cache-control"] == "public, max-age=60"
        assert key.keys() == {"kty", "n", "e", "kid", "use", "alg"}
        assert (key["alg"], key["use"]) == ("RS256", "sig")

    async def test_stay_the_same_after_a_restart(self, new_settings: UserSettings) -> None:
        async with open_app_apart(create_app(SERVICE, new_settings)) as client:
            before = (await client.get("/.well-known/jwks.json")).json()

        async with open_app_apart(create_app(SERVICE, new_settings)) as client:
            after = (await client.get("/.well-known/jwks.json")).json()

        assert after == before

    async def test_of_services_that_start_together_are_the_same(self, new_settings: UserSettings) -> None:
        async def keys() -> object:
            async with open_app(create_app(SERVICE, new_settings)) as client:
                return (await client.get("/.well-known/jwks.json")).json()

        first, *others = await asyncio.gather(*(keys() for _ in range(3)))

        assert others == [first, first]

    async def test_need_the_passphrase_they_were_made_with(self, new_settings: UserSettings) -> None:
        async with open_app_apart(create_app(SERVICE, new_settings)):
            pass
        other = new_settings.model_copy(update={"signing_key_passphrase": SecretStr("another passphrase")})

        with pytest.raises(Exception, match="SIGNING_KEY_PASSPHRASE"):
            async with open_app_apart(create_app(SERVICE, other)):
                pass


class TestServiceTokens:
    async def test_carry_the_scopes_of_the_client(self, client: httpx.AsyncClient) -> None:
        response = await service_token(client, "ai_service", AI_SECRET)

        assert response.status_code == 200
        assert response.json()["expires_in"] == 900

    @pytest.mark.parametrize(
        ("client_id", "secret"),
        [
            ("ai_service", "wrong"),
            ("nobody", AI_SECRET),
            ("alert_service", AI_SECRET),
            ("log_service", ""),
            ("log_service", "change-me"),
            ("external_apis_services", ""),
        ],
    )
    async def test_are_refused_alike(self, client: httpx.AsyncClient, client_id: str, secret: str) -> None:
        response = await service_token(client, client_id, secret)

        assert response.status_code == 401
        assert problem_type(response) == "invalid-client"

    async def test_are_no_tokens_of_a_user(self, client: httpx.AsyncClient) -> None:
        token = (await service_token(client, "ai_service", AI_SECRET)).json()["access_token"]

        read = await client.get("/v1/users/me", headers=bearer(token))
        changed = await client.patch("/v1/users/me", headers=bearer(token), json={"full_name": "Eve"})

        assert (read.status_code, changed.status_code) == (403, 403)


class TestReadiness:
    async def test_names_the_database_and_the_signing_key(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/ready")

        assert response.status_code == 200
        assert response.json()["checks"] == {"database_connected": True, "signing_key_loaded": True}
