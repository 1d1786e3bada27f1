"""Every route that keeps something: nothing is answered before it is kept, and not at all when it could not be."""

import sqlite3
from collections.abc import Awaitable, Callable

import httpx
import pytest

from common.clock import epoch_ms
from tests.api.user_service.conftest import (
    AI_SECRET,
    PASSWORD,
    Admin,
    log_in,
    refresh,
    registration,
    service_token,
)
from tests.api.user_service.people import code_of, keys
from tests.commits import (
    Route,
    check_commit_comes_first,
    check_failed_commit_is_an_outage,
    counted_commits,
    failing_commits,
)
from user_service.auth.passwords import OWASP_ARGON2ID
from user_service.mailed_tokens.texts import token_text

DAY_MS = 86_400_000
Ask = Callable[[httpx.AsyncClient, Admin], Awaitable[httpx.Response]]
ME = "/v1/users/me"


def mailed(token_id: str) -> str:
    return token_text(keys().mailed_tokens, token_id)


def _as_admin(method: str, path: str, **body: object) -> Ask:
    async def ask(client: httpx.AsyncClient, admin: Admin) -> httpx.Response:
        return await client.request(method, path, headers=admin.headers, json=body or None)

    return ask


def _without_token(path: str, **body: object) -> Ask:
    async def ask(client: httpx.AsyncClient, _admin: Admin) -> httpx.Response:
        return await client.post(path, json=body)

    return ask


async def _confirm_second_factor(client: httpx.AsyncClient, admin: Admin) -> httpx.Response:
    return await client.post(
        f"{ME}/second-factor/confirm", headers=admin.headers, json={"code": code_of(SECRET)}
    )


async def _remove_second_factor(client: httpx.AsyncClient, admin: Admin) -> httpx.Response:
    body = {"current_password": PASSWORD, "code": code_of(SECRET)}
    return await client.post(f"{ME}/second-factor/remove", headers=admin.headers, json=body)


# each can be asked for at once: `people` has prepared it
COMMITTING: dict[Route, Ask] = {
    ("POST", "/v1/institutions"): lambda client, _admin: client.post(
        "/v1/institutions", json=registration(email="eve@h.example")
    ),
    ("POST", "/v1/institutions/confirm"): _without_token(
        "/v1/institutions/confirm", token=mailed("reg_waiting"), password=PASSWORD
    ),
    ("POST", "/v1/auth/login"): log_in,
    ("POST", "/v1/auth/refresh"): lambda client, admin: refresh(client, admin.refresh_token),
    ("POST", "/v1/auth/logout"): lambda client, admin: client.post(
        "/v1/auth/logout", json={"refresh_token": admin.refresh_token}
    ),
    ("POST", "/v1/auth/invitations/accept"): _without_token(
        "/v1/auth/invitations/accept", token=mailed("mtk_invitation"), password=PASSWORD
    ),
    ("POST", "/v1/auth/password-resets"): _without_token("/v1/auth/password-resets", email="a@h.example"),
    ("POST", "/v1/auth/password-resets/confirm"): _without_token(
        "/v1/auth/password-resets/confirm", token=mailed("mtk_reset"), password="a-quay-under-four-moons"
    ),
    ("PATCH", ME): _as_admin("PATCH", ME, password="a-quay-under-four-moons", current_password=PASSWORD),
    ("POST", f"{ME}/second-factor"): _as_admin("POST", f"{ME}/second-factor", current_password=PASSWORD),
    ("POST", f"{ME}/second-factor/confirm"): _confirm_second_factor,
    ("POST", f"{ME}/second-factor/remove"): _remove_second_factor,
    ("DELETE", f"{ME}/sessions"): _as_admin("DELETE", f"{ME}/sessions"),
    ("DELETE", f"{ME}/sessions/{{session_id}}"): _as_admin("DELETE", f"{ME}/sessions/ses_other"),
    ("POST", "/v1/users"): _as_admin(
        "POST", "/v1/users", email="new@h.example", full_name="Noor", role="viewer"
    ),
    ("PATCH", "/v1/users/{user_id}"): _as_admin("PATCH", "/v1/users/usr_member", disabled=True),
    ("POST", "/v1/users/{user_id}/invitation"): _as_admin("POST", "/v1/users/usr_invited/invitation"),
    ("DELETE", "/v1/users/{user_id}/second-factor"): _as_admin(
        "DELETE", "/v1/users/usr_member/second-factor"
    ),
    ("DELETE", "/v1/users/{user_id}/sessions"): _as_admin("DELETE", "/v1/users/usr_member/sessions"),
}
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
SECOND_FACTOR_SINCE: dict[Route, int | None] = {
    ("POST", f"{ME}/second-factor/confirm"): None,
    ("POST", f"{ME}/second-factor/remove"): 1,
}
KEEPING_NOTHING: set[Route] = {("POST", "/v1/internal/service-tokens")}


@pytest.fixture(autouse=True)
def people(request: pytest.FixtureRequest, admin: Admin, database: sqlite3.Connection) -> None:
    """Somebody who has joined, with a session and a second factor, and somebody who has not."""
    now = epoch_ms()
    for user_id, password_hash in (("usr_member", "x"), ("usr_invited", "")):
        database.execute(
            "INSERT INTO users (user_id, institution_id, email, email_key, login_key, full_name, role, password_hash, "
            "created_at_ms, totp_secret, totp_confirmed_at_ms) VALUES (?, ?, ?, ?, ?, 'Grace', 'viewer', ?, 1, 'x', 1)",
            (user_id, admin.institution_id, *[f"{user_id}@h.example"] * 2, user_id, password_hash),
        )
    for session_id, user_id in (("ses_member", "usr_member"), ("ses_other", admin.user_id)):
        database.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, NULL, ?, ?, '', '')",
            (session_id, user_id, now, now + DAY_MS, now, now),
        )
    for token_id, user_id, purpose in (
        ("mtk_invitation", "usr_invited", "invitation"),
        ("mtk_reset", admin.user_id, "password_reset"),
    ):
        database.execute(
            "INSERT INTO mailed_tokens VALUES (?, ?, ?, ?, ?, NULL)",
            (token_id, user_id, purpose, now, now + DAY_MS),
        )
    database.execute(
        "INSERT INTO registrations VALUES ('reg_waiting', 'Quay Bank', 'live', 'EUR', 'liv@h.example', 'liv@h.example',"
        " 'Liv', ?, ?, ?)",
        (OWASP_ARGON2ID.hash(PASSWORD), now, now + DAY_MS),
    )
    route = request.node.callspec.params["route"] if hasattr(request.node, "callspec") else None
    if route in SECOND_FACTOR_SINCE:
        encrypted = keys().second_factors.encrypt(SECRET.encode()).decode()
        database.execute(
            "UPDATE users SET totp_secret = ?, totp_confirmed_at_ms = ? WHERE user_id = ?",
            (encrypted, SECOND_FACTOR_SINCE[route], admin.user_id),
        )


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
        def rows() -> list[tuple[int]]:
            tables = ("institutions", "identity_events", "outbox")
            query = "SELECT count(*) FROM {}"
            return [database.execute(query.format(table)).fetchone() for table in tables]

        before, another = rows(), registration(email="eve@h.example")

        await check_failed_commit_is_an_outage(lambda: client.post("/v1/institutions", json=another))

        assert rows() == before

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


class TestRefusedLogin:
    async def test_is_counted_before_it_is_answered(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        response = await log_in(client, admin, password="not-the-password-1")

        assert response.status_code == 401
        assert database.execute("SELECT failures FROM attempts").fetchall() == [(1,), (1,), (1,)]

    async def test_that_could_not_be_counted_is_an_outage(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: log_in(client, admin, password="not-the-password-1"))


class TestLockedLogin:
    async def test_keeps_nothing(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await log_in(client, admin, password="not-the-password-1")
        database.execute("UPDATE attempts SET locked_until_ms = ?", (epoch_ms() + DAY_MS,))

        begun = []
        for _ in range(3):  # what goes on beside the requests commits too, now and then
            with counted_commits() as commits:
                response = await log_in(client, admin)
            assert response.status_code == 429
            begun.append(commits.begun)

        assert min(begun) == 0
