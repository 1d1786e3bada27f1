"""Every route that keeps something: nothing is answered before it is kept, and not at all when it could not be."""

import sqlite3
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.api.user_service.conftest import (
    AI_SECRET,
    PASSWORD,
    Admin,
    log_in,
    refresh,
    registration,
    service_token,
)
from tests.commits import (
    Route,
    check_commit_comes_first,
    check_failed_commit_is_an_outage,
    counted_commits,
    failing_commits,
)

COMMITTING: dict[Route, Callable[[httpx.AsyncClient, Admin], Awaitable[httpx.Response]]] = {
    ("POST", "/v1/institutions"): lambda client, _admin: client.post(
        "/v1/institutions", json=registration(email="eve@h.example")
    ),
    ("POST", "/v1/auth/login"): log_in,
    ("POST", "/v1/auth/refresh"): lambda client, admin: refresh(client, admin.refresh_token),
    ("POST", "/v1/auth/logout"): lambda client, admin: client.post(
        "/v1/auth/logout", json={"refresh_token": admin.refresh_token}
    ),
    ("PATCH", "/v1/users/me"): lambda client, admin: client.patch(
        "/v1/users/me",
        headers=admin.headers,
        json={"password": "a-quay-under-four-moons", "current_password": PASSWORD},
    ),
}
KEEPING_NOTHING: set[Route] = {("POST", "/v1/internal/service-tokens")}


@pytest.mark.parametrize("route", COMMITTING, ids=" ".join)
class TestCommit:
    async def test_comes_before_the_first_byte_of_the_answer(
        self, client: httpx.AsyncClient, admin: Admin, route: Route
    ) -> None:
        await check_commit_comes_first(client, lambda: COMMITTING[route](client, admin))

    async def test_that_fails_is_an_outage_after_which_the_same_request_succeeds(
        self, client: httpx.AsyncClient, admin: Admin, route: Route
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: COMMITTING[route](client, admin))

        again = await COMMITTING[route](client, admin)

        assert again.is_success, again.text


class TestFailedCommit:
    async def test_of_a_registration_leaves_nothing_to_tell(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: client.post("/v1/institutions", json=registration()))

        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - our own tables
            for table in ("institutions", "identity_events", "outbox")
        ]
        assert counts == [(0,)] * 3

    async def test_of_a_reused_refresh_token_does_not_say_that_its_session_was_ended(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        used = await refresh(client, admin.refresh_token)
        newest = used.json()["refresh_token"]

        await check_failed_commit_is_an_outage(lambda: refresh(client, admin.refresh_token))

        assert (await refresh(client, newest)).status_code == 200


class TestServiceToken:
    async def test_needs_no_commit(self, client: httpx.AsyncClient) -> None:
        with failing_commits() as commits:
            response = await service_token(client, "ai_service", AI_SECRET)

        assert response.status_code == 200
        assert commits.begun == 0


class TestReading:
    async def test_a_refused_login_keeps_nothing(self, client: httpx.AsyncClient, admin: Admin) -> None:
        with counted_commits() as commits:
            response = await log_in(client, admin, password="not-the-password-1")

        assert response.status_code == 401
        assert commits.begun == 0
