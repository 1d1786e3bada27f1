import sqlite3
from typing import Any

import httpx
import pytest

from common.auth.gate import Expected, open_token
from common.clock import epoch_ms
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import TokenUse
from tests.api.user_service.conftest import (
    AI_SECRET,
    ALERT_SECRET,
    PASSWORD,
    Admin,
    bearer,
    problem_type,
    register,
    registration,
    service_token,
)
from tests.api.user_service.people import invite


class TestRegister:
    async def test_replies_with_ids_and_a_session(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/institutions", json=registration())

        body = response.json()
        assert response.status_code == 201
        assert body["institution_id"].startswith("ins_")
        assert body["user_id"].startswith("usr_")
        assert body["tokens"]["token_type"] == "Bearer"
        assert body["tokens"]["expires_in"] == 900
        assert set(body["tokens"]) == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert response.headers["cache-control"] == "no-store"

    async def test_signs_a_token_that_names_the_admin_and_the_institution(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        key = (await client.get("/.well-known/jwks.json")).json()["keys"][0]

        principal = open_token(
            admin.access_token,
            key,
            expected=Expected(issuer="assay", audience="assay"),
            now=epoch_ms() // 1000,
        )

        assert principal.use is TokenUse.USER
        assert principal.subject == admin.user_id
        assert principal.role == "admin"
        assert principal.tenant == Institution(
            institution_id=admin.institution_id, mode=InstitutionMode.SANDBOX, base_currency="EUR"
        )
        assert principal.scopes == set(SCOPES_BY_ROLE[Role.ADMIN])
        assert principal.session_id.startswith("ses_")

    @pytest.mark.parametrize("email", ["ada@harbour.example", "ADA@Harbour.Example"])
    async def test_refuses_an_address_that_has_an_account(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, email: str
    ) -> None:
        response = await client.post("/v1/institutions", json=registration(email=email))

        assert response.status_code == 409
        assert problem_type(response) == "email-taken"
        assert email not in response.text
        assert database.execute(
            "SELECT count(*) FROM institutions WHERE institution_id != 'platform'"
        ).fetchone() == (1,)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"password": "elevenchars"}, "body.admin.password"),
            ({"password": "x" * 129}, "body.admin.password"),
            ({"password": "tide-and-\x00lantern"}, "body.admin.password"),
            ({"password": 123456789012}, "body.admin.password"),
            ({"email": "ada"}, "body.admin.email"),
            ({"email": "Ada <ada@harbour.example>"}, "body.admin.email"),
            ({"email": "ada@harbour.example\r\nBcc: eve@harbour.example"}, "body.admin.email"),
            ({"full_name": ""}, "body.admin.full_name"),
            ({"full_name": "  "}, "body.admin.full_name"),
            ({"full_name": "Ada\u202eOkafor"}, "body.admin.full_name"),
            ({"role": "admin"}, "body.admin.?"),
            ({"institution_id": "ins_other"}, "body.admin.?"),
        ],
    )
    async def test_names_the_field_it_does_not_take(
        self, client: httpx.AsyncClient, changes: dict[str, Any], field: str
    ) -> None:
        response = await client.post("/v1/institutions", json=registration(**changes))

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"
        assert [error["field"] for error in response.json()["errors"]] == [field]

    @pytest.mark.parametrize(
        "changes",
        [
            {"mode": "real"},
            {"base_currency": "XXX"},
            {"name": ""},
            {"name": "Pay at evil.example"},
            {"tier": 1},
        ],
    )
    async def test_refuses_an_institution_of_odd_form(
        self, client: httpx.AsyncClient, changes: dict[str, Any]
    ) -> None:
        response = await client.post("/v1/institutions", json=registration() | changes)

        assert response.status_code == 422

    @pytest.mark.parametrize(
        "password", ["passwordpassword", "my Ada@Harbour.Example", "aaaaaaaaaaaa", "Harbour2026!!"]
    )
    async def test_refuses_a_password_that_is_easy_to_guess(
        self, client: httpx.AsyncClient, password: str
    ) -> None:
        response = await client.post("/v1/institutions", json=registration(password=password))

        assert response.status_code == 422
        assert problem_type(response) == "weak-password"

    async def test_takes_no_address_that_is_another_one_but_for_how_it_is_written(
        self, client: httpx.AsyncClient
    ) -> None:
        kelvin_sign = "\u212a"

        response = await client.post(
            "/v1/institutions", json=registration(email=f"{kelvin_sign}ate@harbour.example")
        )

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"
        assert "write it with those" in response.json()["errors"][0]["message"]
        assert (await register(client, email="kate@harbour.example")).email == "kate@harbour.example"

    async def test_takes_a_password_with_half_characters_for_what_it_is(
        self, client: httpx.AsyncClient
    ) -> None:
        body = (
            b'{"name":"H","mode":"live","base_currency":"EUR","admin":'
            b'{"email":"a@harbour.example","password":"tide-and-lantern\\ud800","full_name":"A"}}'
        )

        response = await client.post(
            "/v1/institutions", content=body, headers={"Content-Type": "application/json"}
        )

        assert response.status_code == 422

    async def test_never_repeats_what_was_sent(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/institutions", json=registration(password="canary", email="canary"))

        assert response.status_code == 422
        assert "canary" not in response.text

    async def test_stores_no_password_and_no_refresh_token(
        self, admin: Admin, database: sqlite3.Connection
    ) -> None:
        stored = "\n".join(database.iterdump())

        assert PASSWORD not in stored
        assert admin.refresh_token not in stored
        assert "$argon2id$v=19$m=19456,t=2,p=1$" in stored
        assert "BEGIN ENCRYPTED PRIVATE KEY" in stored
        assert "BEGIN PRIVATE KEY" not in stored


class TestRecipients:
    async def test_are_the_addresses_of_enabled_admins_of_that_institution_who_have_joined(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await register(client, email="eve@elsewhere.example")
        invited = await invite(client, admin, email="not-here-yet@h.example", role="admin")
        for user_id, role, disabled_at in (("b", "admin", None), ("c", "viewer", None), ("d", "admin", 1)):
            database.execute(
                "INSERT INTO users (user_id, institution_id, email, email_key, login_key, full_name, role, password_hash, "
                "created_at_ms, disabled_at_ms) "
                "SELECT ?, institution_id, ?, ?, ?, full_name, ?, password_hash, created_at_ms, ? "
                "FROM users WHERE user_id = ?",
                (
                    f"usr_{user_id}",
                    *[f"{user_id}@h.example"] * 3,
                    role,
                    disabled_at,
                    admin.user_id,
                ),
            )
        token = (await service_token(client, "alert_service", ALERT_SECRET)).json()["access_token"]

        response = await client.get(
            f"/v1/internal/institutions/{admin.institution_id}/recipients", headers=bearer(token)
        )

        assert invited.status_code == 201
        assert response.status_code == 200
        assert sorted(response.json().pop("emails")) == ["ada@harbour.example", "b@h.example"]
        assert response.json()["institution_name"] == "Harbour Payments"

    async def test_of_an_unknown_institution_are_not_found(self, client: httpx.AsyncClient) -> None:
        token = (await service_token(client, "alert_service", ALERT_SECRET)).json()["access_token"]

        response = await client.get("/v1/internal/institutions/ins_unknown/recipients", headers=bearer(token))

        assert response.status_code == 404

    @pytest.mark.parametrize("institution_id", ["%00", "a%0Ab", "x" * 65])
    async def test_of_what_is_no_id_are_refused(self, client: httpx.AsyncClient, institution_id: str) -> None:
        token = (await service_token(client, "alert_service", ALERT_SECRET)).json()["access_token"]

        response = await client.get(
            f"/v1/internal/institutions/{institution_id}/recipients", headers=bearer(token)
        )

        assert response.status_code == 422

    async def test_are_refused_to_users(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.get(
            f"/v1/internal/institutions/{admin.institution_id}/recipients", headers=admin.headers
        )

        assert response.status_code == 403

    async def test_are_refused_to_services_without_the_scope(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        token = (await service_token(client, "ai_service", AI_SECRET)).json()["access_token"]

        response = await client.get(
            f"/v1/internal/institutions/{admin.institution_id}/recipients", headers=bearer(token)
        )

        assert response.status_code == 403

    async def test_are_refused_without_a_token(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.get(f"/v1/internal/institutions/{admin.institution_id}/recipients")

        assert response.status_code == 401
