import base64
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest

from common.auth.gate import Expected, open_token
from common.clock import epoch_ms, utc_now
from common.contracts.tokens import TokenUse
from tests.api.user_service.conftest import Admin, exchange, make_key, problem_type

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def basic(user: str, secret: str) -> dict[str, str]:
    pair = f"{quote_plus(user)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


async def post(client: httpx.AsyncClient, body: str, headers: Any = None) -> httpx.Response:  # noqa: ANN401 - as httpx takes them
    return await client.post("/v1/auth/token", content=body, headers=FORM if headers is None else headers)


def form_of(key: dict[str, Any]) -> str:
    return f"grant_type=client_credentials&client_id={key['key_id']}&client_secret={key['key']}"


class TestExchange:
    async def test_gives_a_token_that_acts_for_the_key(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        response = await exchange(client, key)

        body = response.json()
        keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
        principal = open_token(
            body["access_token"],
            keys[0],
            expected=Expected(issuer="assay", audience="assay"),
            now=epoch_ms() // 1000,
        )
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 900, "score:write")
        assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
        assert (principal.use, principal.subject, principal.session_id) == (
            TokenUse.API_KEY,
            key["key_id"],
            key["key_id"],
        )
        assert (principal.institution_id, principal.role) == (admin.institution_id, None)
        assert principal.scopes == {"score:write"}

    async def test_takes_the_credentials_as_http_basic(
        self, client: httpx.AsyncClient, key: dict[str, Any]
    ) -> None:
        headers = {**FORM, **basic(key["key_id"], key["key"])}

        response = await post(client, "grant_type=client_credentials", headers)

        assert response.status_code == 200, response.text

    async def test_gives_the_scopes_asked_for_and_no_others(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        key = await make_key(client, admin, scopes=["score:write", "decisions:read", "audit:read"])

        fewer = await exchange(client, key, scope="decisions:read score:write")
        more = await exchange(client, key, scope="score:write usage:read")
        odd = await exchange(client, key, scope="root")

        assert fewer.json()["scope"] == "score:write decisions:read"
        for refused in (more, odd):
            assert (refused.status_code, problem_type(refused)) == (400, "scope-refused")
            assert refused.json()["error"] == "invalid_scope"

    async def test_gives_a_token_that_ends_with_the_key(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        key = await make_key(client, admin, expires_at=(utc_now() + timedelta(seconds=90)).isoformat())

        response = await exchange(client, key)

        assert 80 <= response.json()["expires_in"] <= 90

    async def test_says_when_the_key_was_used(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        await exchange(client, key)

        read = await client.get(f"/v1/api-keys/{key['key_id']}", headers=admin.headers)

        assert read.json()["last_used_at"] is not None

    @pytest.mark.parametrize("scheme", ["application/x-www-form-urlencoded; charset=UTF-8"])
    async def test_passes_over_what_it_does_not_know(
        self, client: httpx.AsyncClient, key: dict[str, Any], scheme: str
    ) -> None:
        response = await post(client, form_of(key) + "&resource=x&scope=", {"Content-Type": scheme})

        assert response.status_code == 200, response.text


class TestRefusals:
    @pytest.mark.parametrize(
        "changes",
        [
            lambda key: {"client_id": "key_other"},
            lambda key: {"client_id": key["prefix"]},
            lambda key: {"client_secret": key["key"][:-1]},
            lambda key: {"client_secret": key["key"] + "x"},
            lambda key: {"client_secret": key["key"].swapcase()},
            lambda key: {"client_secret": key["key_id"]},
            lambda key: {"client_secret": "\x00\x01 é"},
            lambda key: {"client_secret": ""},
        ],
    )
    async def test_of_wrong_credentials_are_all_alike(
        self,
        client: httpx.AsyncClient,
        key: dict[str, Any],
        changes: Callable[[dict[str, Any]], dict[str, str]],
    ) -> None:
        response = await exchange(client, key, **changes(key))

        assert (response.status_code, problem_type(response)) == (401, "invalid-client")
        assert response.json()["error"] == "invalid_client"
        assert response.headers["WWW-Authenticate"].startswith("Basic ")
        assert set(response.json()) == {"type", "title", "status", "error", "request_id"}

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE api_keys SET revoked_at_ms = 1",
            "UPDATE api_keys SET expires_at_ms = 1",
            "UPDATE institutions SET suspended_at_ms = 1",
        ],
    )
    async def test_of_keys_without_rights_are_so_too(
        self, client: httpx.AsyncClient, key: dict[str, Any], database: sqlite3.Connection, statement: str
    ) -> None:
        database.execute(statement)

        response = await exchange(client, key)

        assert (response.status_code, problem_type(response)) == (401, "invalid-client")

    @pytest.mark.parametrize(
        "authorization",
        [
            "Basic",
            "Basic ",
            "Basic !!",
            "Basic " + base64.b64encode(b"no-colon").decode(),
            "Bearer x",
            "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
            "Basic " + "A" * 3000,
        ],
    )
    async def test_of_odd_basic_credentials_are_so_too(
        self, client: httpx.AsyncClient, key: dict[str, Any], authorization: str
    ) -> None:
        response = await post(
            client, "grant_type=client_credentials", {**FORM, "Authorization": authorization}
        )

        assert (response.status_code, problem_type(response)) == (401, "invalid-client")

    @pytest.mark.parametrize("grant_type", ["password", "authorization_code", "CLIENT_CREDENTIALS", "x"])
    async def test_of_another_grant_say_so(
        self, client: httpx.AsyncClient, key: dict[str, Any], grant_type: str
    ) -> None:
        response = await exchange(client, key, grant_type=grant_type)

        assert (response.status_code, problem_type(response)) == (400, "grant-type-unsupported")
        assert response.json()["error"] == "unsupported_grant_type"

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "client_id=x&client_secret=y",
            "grant_type=&client_id=x",
            "grant_type=client_credentials&grant_type=client_credentials&client_id=x&client_secret=y",
            "grant_type=client_credentials&client_id=x&client_id=x&client_secret=y",
            "grant_type=client_credentials&client_secret=%ff%fe",
            "grant_type=client_credentials&client_secret=é",
            "&".join(f"a{number}=1" for number in range(50)),
            "grant_type=client_credentials&client_secret=" + "x" * 5000,
            '{"grant_type": "client_credentials"}',
        ],
    )
    async def test_of_a_body_that_is_no_token_request(self, client: httpx.AsyncClient, body: str) -> None:
        response = await post(client, body)

        assert (response.status_code, problem_type(response)) == (400, "token-request-invalid")
        assert response.json()["error"] == "invalid_request"

    async def test_of_credentials_sent_in_two_ways(
        self, client: httpx.AsyncClient, key: dict[str, Any]
    ) -> None:
        response = await post(client, form_of(key), {**FORM, **basic(key["key_id"], key["key"])})

        assert (response.status_code, problem_type(response)) == (400, "token-request-invalid")

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Content-Type": "application/json"},
            {"Content-Type": "multipart/form-data; boundary=x"},
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-16"},
            [("Content-Type", FORM["Content-Type"]), ("Content-Type", FORM["Content-Type"])],
        ],
    )
    async def test_of_a_body_that_is_not_declared_as_a_form(
        self,
        client: httpx.AsyncClient,
        key: dict[str, Any],
        headers: Any,  # noqa: ANN401 - as httpx takes them
    ) -> None:
        response = await post(client, form_of(key), headers)

        assert (response.status_code, problem_type(response)) == (415, "form-needed")
        assert response.headers["Accept"] == FORM["Content-Type"]

    async def test_repeat_nothing_of_what_was_sent(
        self, client: httpx.AsyncClient, key: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        wrong = key["key"][:-1] + "!"
        answers = [await exchange(client, key, client_secret=wrong), await exchange(client, key, scope="x")]

        told = "".join(answer.text for answer in answers) + capsys.readouterr().out
        assert key["key"][20:60] not in told
