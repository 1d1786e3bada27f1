import sqlite3

import httpx
import pytest

from tests.api.user_service.conftest import (
    PASSWORD,
    Admin,
    bearer,
    log_in,
    problem_type,
    refresh,
    register,
)

NEW_PASSWORD = "a-quay-under-four-moons"


class TestReadMe:
    async def test_shows_the_user_and_the_institution(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.get("/v1/users/me", headers=admin.headers)

        body = response.json()
        assert response.status_code == 200
        assert body.pop("created_at").endswith("Z")
        assert body.pop("last_login_at").endswith("Z")
        assert body == {
            "user_id": admin.user_id,
            "email": "ada@harbour.example",
            "full_name": "Ada Okafor",
            "role": "admin",
            "second_factor": False,
            "institution": {
                "institution_id": admin.institution_id,
                "name": "Harbour Payments",
                "mode": "sandbox",
                "base_currency": "EUR",
            },
        }

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}])
    async def test_needs_a_token(self, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
        response = await client.get("/v1/users/me", headers=headers)

        assert response.status_code == 401
        assert problem_type(response) == "unauthenticated"

    async def test_is_over_when_the_user_is_disabled(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE users SET disabled_at_ms = 1")

        response = await client.get("/v1/users/me", headers=admin.headers)

        assert response.status_code == 401


class TestChangeMe:
    async def test_changes_the_name_of_the_caller_alone(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")

        response = await client.patch("/v1/users/me", headers=admin.headers, json={"full_name": "Ada Obi"})

        mine = await client.get("/v1/users/me", headers=admin.headers)
        theirs = await client.get("/v1/users/me", headers=other.headers)
        assert response.status_code == 200
        assert response.json()["full_name"] == mine.json()["full_name"] == "Ada Obi"
        assert theirs.json()["full_name"] == "Ada Okafor"

    async def test_changes_the_password(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"password": NEW_PASSWORD, "current_password": PASSWORD},
        )

        assert response.status_code == 200
        assert (await log_in(client, admin)).status_code == 401
        assert (await log_in(client, admin, password=NEW_PASSWORD)).status_code == 200

    async def test_ends_the_other_sessions_with_a_new_password(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        mine = (await log_in(client, admin)).json()
        renewed = (await refresh(client, mine["refresh_token"])).json()

        await client.patch(
            "/v1/users/me",
            headers=bearer(renewed["access_token"]),
            json={"password": NEW_PASSWORD, "current_password": PASSWORD},
        )

        assert (await refresh(client, admin.refresh_token)).status_code == 401
        assert (await refresh(client, renewed["refresh_token"])).status_code == 200

    async def test_leaves_the_sessions_of_other_users_alone(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")

        await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"password": NEW_PASSWORD, "current_password": PASSWORD},
        )

        assert (await refresh(client, other.refresh_token)).status_code == 200

    async def test_takes_both_unicode_forms_of_a_password_as_one(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        decomposed = "cafe\u0301-au-quai-vert"
        composed = "caf\u00e9-au-quai-vert"

        await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"password": decomposed, "current_password": PASSWORD},
        )

        assert (await log_in(client, admin, password=composed)).status_code == 200
        assert (await log_in(client, admin, password=decomposed)).status_code == 200

    async def test_compares_every_character_of_a_long_password(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        long = ("quay-lantern-" * 10)[:128]
        await client.patch(
            "/v1/users/me", headers=admin.headers, json={"password": long, "current_password": PASSWORD}
        )

        assert (await log_in(client, admin, password=long[:-1] + "x")).status_code == 401
        assert (await log_in(client, admin, password=long)).status_code == 200

    async def test_needs_the_current_password(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"full_name": "Eve", "password": NEW_PASSWORD, "current_password": "wrong"},
        )

        me = await client.get("/v1/users/me", headers=admin.headers)
        assert response.status_code == 403
        assert problem_type(response) == "wrong-current-password"
        assert me.json()["full_name"] == "Ada Okafor"
        assert (await log_in(client, admin)).status_code == 200

    async def test_refuses_a_weak_new_password(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"password": "Ada@Harbour.Example", "current_password": PASSWORD},
        )

        assert response.status_code == 422
        assert problem_type(response) == "weak-password"

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"full_name": None},
            {"full_name": ""},
            {"password": NEW_PASSWORD},
            {"current_password": PASSWORD},
            {"password": "short", "current_password": PASSWORD},
            {"role": "admin"},
            {"email": "other@harbour.example"},
            {"institution_id": "ins_other"},
            {"password_hash": "x"},
            [],
        ],
    )
    async def test_refuses_what_it_cannot_change(
        self, client: httpx.AsyncClient, admin: Admin, body: object
    ) -> None:
        response = await client.patch("/v1/users/me", headers=admin.headers, json=body)

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"
