"""A commit that fails: the database refuses it only at COMMIT, as a full disk or a lost connection would."""

import sqlite3

import httpx
import pytest

from tests.api.user_service.conftest import (
    PASSWORD,
    Admin,
    log_in,
    problem_type,
    refresh,
    registration,
)


@pytest.fixture
def failing_commits(admin: Admin, database: sqlite3.Connection) -> None:
    """From now on every new session breaks a foreign key that SQLite checks at COMMIT."""
    database.executescript(
        """
        CREATE TABLE broken (parent TEXT REFERENCES users (user_id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER break_sessions AFTER INSERT ON refresh_tokens BEGIN INSERT INTO broken VALUES ('nobody'); END;
        CREATE TRIGGER break_ends AFTER UPDATE OF ended_at_ms ON sessions BEGIN INSERT INTO broken VALUES ('nobody'); END;
        CREATE TRIGGER break_users AFTER UPDATE ON users BEGIN INSERT INTO broken VALUES ('nobody'); END;
        """
    )


@pytest.mark.usefixtures("failing_commits")
class TestFailingCommit:
    async def test_registers_nobody(self, client: httpx.AsyncClient, database: sqlite3.Connection) -> None:
        response = await client.post("/v1/institutions", json=registration(email="eve@h.example"))

        assert response.status_code == 500
        assert problem_type(response) == "internal"
        assert database.execute(
            "SELECT count(*) FROM institutions WHERE institution_id != 'platform'"
        ).fetchone() == (1,)

    async def test_gives_no_tokens_at_login(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await log_in(client, admin)

        assert response.status_code == 500

    async def test_leaves_the_refresh_token_unused(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        failed = await refresh(client, admin.refresh_token)
        database.execute("DROP TRIGGER break_sessions")

        again = await refresh(client, admin.refresh_token)

        assert failed.status_code == 500
        assert again.status_code == 200

    async def test_says_so_when_a_reused_token_could_not_end_its_session(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE refresh_tokens SET used_at_ms = 1")

        response = await refresh(client, admin.refresh_token)

        assert response.status_code == 500

    async def test_does_not_confirm_a_logout(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        assert response.status_code == 500

    async def test_does_not_confirm_a_new_password(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        response = await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"password": "a-quay-under-four-moons", "current_password": PASSWORD},
        )
        database.execute("DROP TRIGGER break_users")
        database.execute("DROP TRIGGER break_sessions")

        assert response.status_code == 500
        assert (await log_in(client, admin)).status_code == 200
