import sqlite3

import httpx

from tests.api.user_service.conftest import PASSWORD, Admin, log_in, problem_type, refresh, register
from tests.api.user_service.people import (
    NEW_PASSWORD,
    accept,
    add_member,
    all_pages,
    events,
    invite,
    newest_token,
    session_ids,
    suspend,
    told_sessions,
    with_tokens,
)

URL = "/v1/users/me/sessions"


async def shown(client: httpx.AsyncClient, user: Admin) -> list[dict[str, object]]:
    response = await client.get(URL, headers=user.headers)
    assert response.status_code == 200, response.text
    items: list[dict[str, object]] = response.json()["items"]
    return items


class TestList:
    async def test_shows_where_somebody_is_logged_in(self, client: httpx.AsyncClient, admin: Admin) -> None:
        body = {"email": admin.email, "password": PASSWORD}
        await client.post("/v1/auth/login", json=body, headers={"User-Agent": "Firefox/1\t(X11)"})

        first, second = sorted(await shown(client, admin), key=lambda item: bool(item["current"]))

        assert first["current"] is False
        assert first["user_agent"] == "Firefox/1 (X11)"
        assert first["ip_address"] == "127.0.0.1"
        assert second["current"] is True
        assert str(second["user_agent"]).startswith("python-httpx/")
        assert all(str(second[name]).endswith("Z") for name in ("created_at", "last_used_at", "expires_at"))
        assert set(first) == {
            "session_id",
            "created_at",
            "last_used_at",
            "expires_at",
            "ip_address",
            "user_agent",
            "current",
        }

    async def test_keeps_as_much_of_the_browsers_name_as_its_column_holds(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        body = {"email": admin.email, "password": PASSWORD}
        await client.post("/v1/auth/login", json=body, headers={"User-Agent": "x y" * 1000})

        assert sorted(len(str(item["user_agent"])) for item in await shown(client, admin))[-1] == 256

    async def test_shows_when_a_session_was_last_used(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE sessions SET last_used_at_ms = 1000, created_at_ms = created_at_ms - 5000")
        before = (await shown(client, admin))[0]

        await refresh(client, admin.refresh_token)

        after = (await shown(client, admin))[0]
        assert before["last_used_at"] == "1970-01-01T00:00:01Z"
        assert str(after["last_used_at"]) > str(after["created_at"])

    async def test_leaves_out_what_has_ended_or_expired(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        ended = (await log_in(client, admin)).json()
        await client.post("/v1/auth/logout", json={"refresh_token": ended["refresh_token"]})
        await log_in(client, admin)
        database.execute(
            "UPDATE sessions SET expires_at_ms = 1 WHERE session_id = (SELECT max(session_id) FROM sessions)"
        )

        assert [item["current"] for item in await shown(client, admin)] == [True]

    async def test_shows_pages_from_the_newest_login_to_the_oldest(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        for _ in range(4):
            await log_in(client, admin)
        ids = [row[0] for row in database.execute("SELECT session_id FROM sessions ORDER BY 1 DESC")]

        pages = await all_pages(client, f"{URL}?limit=2", admin)

        assert [[item["session_id"] for item in page] for page in pages] == [ids[:2], ids[2:4], ids[4:]]

    async def test_shows_nobody_elses(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        assert len(await shown(client, admin)) == 1
        assert len(await shown(client, member)) == 1


class TestEndOne:
    async def test_ends_it_everywhere(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = with_tokens(admin, await log_in(client, admin))
        (session_id,) = [item["session_id"] for item in await shown(client, admin) if not item["current"]]

        response = await client.delete(f"{URL}/{session_id}", headers=admin.headers)

        (event,) = events(database, "session.ended")
        assert response.status_code == 204
        assert (await refresh(client, other.refresh_token)).status_code == 401
        assert (await refresh(client, admin.refresh_token)).status_code == 200
        assert told_sessions(database) == {session_id}
        assert event["subject"] == {"kind": "session", "id": session_id}
        assert event["details"] == {"user_id": admin.user_id, "reason": "revoked"}

    async def test_may_be_the_one_that_asks(self, client: httpx.AsyncClient, admin: Admin) -> None:
        (current,) = await shown(client, admin)

        response = await client.delete(f"{URL}/{current['session_id']}", headers=admin.headers)

        assert response.status_code == 204
        assert (await refresh(client, admin.refresh_token)).status_code == 401

    async def test_of_somebody_else_is_not_found_and_goes_on(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        stranger = await register(client, email="eve@elsewhere.example")
        (session_id,) = session_ids(database, member.user_id)

        answers = [
            await client.delete(f"{URL}/{session_id}", headers=caller.headers) for caller in (admin, stranger)
        ]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert (await refresh(client, member.refresh_token)).status_code == 200

    async def test_twice_is_not_found(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await log_in(client, admin)
        (session_id,) = [item["session_id"] for item in await shown(client, admin) if not item["current"]]
        await client.delete(f"{URL}/{session_id}", headers=admin.headers)

        again = await client.delete(f"{URL}/{session_id}", headers=admin.headers)

        assert again.status_code == 404
        assert len(events(database, "session.ended")) == 1


class TestEndOthers:
    async def test_leaves_the_one_that_asks(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        others = [with_tokens(admin, await log_in(client, admin)) for _ in range(2)]
        member = await add_member(client, admin, database)

        response = await client.delete(URL, headers=admin.headers)

        assert response.status_code == 204
        assert [(await refresh(client, other.refresh_token)).status_code for other in others] == [401, 401]
        assert (await refresh(client, admin.refresh_token)).status_code == 200
        assert (await refresh(client, member.refresh_token)).status_code == 200
        assert len(told_sessions(database)) == 2


class TestEndByAnAdmin:
    async def test_ends_all_of_somebody_else(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        await log_in(client, member)
        open_before = session_ids(database, member.user_id)

        response = await client.delete(f"/v1/users/{member.user_id}/sessions", headers=admin.headers)

        assert response.status_code == 204
        assert told_sessions(database) == open_before
        assert {event["actor"]["id"] for event in events(database, "session.ended")} == {admin.user_id}
        assert (await log_in(client, member)).status_code == 200

    async def test_is_refused_to_others(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        response = await client.delete(f"/v1/users/{admin.user_id}/sessions", headers=member.headers)

        assert response.status_code == 403
        assert (await refresh(client, admin.refresh_token)).status_code == 200


class TestWhatEndsSessions:
    async def test_logging_out(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})
        await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        (event,) = events(database, "session.ended")
        assert event["details"]["reason"] == "logout"
        assert event["actor"] == {"kind": "user", "id": admin.user_id}
        assert told_sessions(database) == session_ids(database, admin.user_id, ended=True)

    async def test_using_a_refresh_token_twice(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await refresh(client, admin.refresh_token)

        for _ in range(3):
            await refresh(client, admin.refresh_token)

        (event,) = events(database, "session.ended_by_reuse")
        assert event["actor"] == {"kind": "anonymous", "id": None}
        assert event["subject"]["id"] in told_sessions(database)
        assert len(told_sessions(database)) == 1

    async def test_a_new_password_ends_the_others(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await log_in(client, admin)
        (kept,) = [item["session_id"] for item in await shown(client, admin) if item["current"]]

        await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"password": NEW_PASSWORD, "current_password": PASSWORD},
        )

        assert session_ids(database, admin.user_id) == {kept}
        assert told_sessions(database) == session_ids(database, admin.user_id, ended=True)
        assert len(events(database, "password.changed")) == 1

    async def test_are_numbered_in_the_feed_without_gaps(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        for _ in range(3):
            await log_in(client, admin)
        await client.delete(URL, headers=admin.headers)
        await client.post("/v1/auth/logout", json={"refresh_token": admin.refresh_token})

        versions = database.execute("SELECT version FROM access_changes ORDER BY version").fetchall()
        assert versions == [
            (number,) for number in range(1, 7)
        ]  # the platform, the institution and four sessions


class TestSuspendedInstitution:
    async def test_lets_nobody_log_in(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        suspend(database)

        right = await log_in(client, admin)
        wrong = await log_in(client, admin, password="not-the-password-1")

        assert right.status_code == 403
        assert problem_type(right) == "institution-suspended"
        assert problem_type(wrong) == "invalid-credentials"
        assert len(session_ids(database, admin.user_id)) == 1

    async def test_refreshes_nothing_until_it_is_let_in_again(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        suspend(database)
        refused = await refresh(client, admin.refresh_token)
        database.execute("UPDATE institutions SET suspended_at_ms = NULL")

        again = await refresh(client, admin.refresh_token)

        assert refused.status_code == 403
        assert problem_type(refused) == "institution-suspended"
        assert again.status_code == 200

    async def test_lets_nobody_join(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        suspend(database)

        refused = await accept(client, newest_token(database, "invitation"))
        forged = await accept(client, "mtk_1.0")

        assert problem_type(refused) == "institution-suspended"
        assert problem_type(forged) == "invalid-mailed-token"
