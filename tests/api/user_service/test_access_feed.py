import asyncio
import sqlite3
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from common.app import create_app
from common.clock import epoch_ms
from common.contracts.access import AccessFeed
from common.db import Database
from common.ids import new_id
from common.tenancy import of_every_tenant
from tests.api.user_service.conftest import (
    AI_SECRET,
    ALERT_SECRET,
    Admin,
    bearer,
    make_key,
    problem_type,
    register,
    service_token,
)
from tests.asgi import open_app_apart
from user_service.access.repository import forget_ended_sessions, forget_marks, last_change
from user_service.access.service import AccessFeeds
from user_service.access_changes.noting import Subject, note_change
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID
from user_service.main import SERVICE
from user_service.sessions.tables import SessionRow
from user_service.settings import UserSettings

HASH_KEY = b"k" * 32


@pytest.fixture
async def service_headers(client: httpx.AsyncClient) -> dict[str, str]:
    return bearer((await service_token(client, "ai_service", AI_SECRET)).json()["access_token"])


@pytest.fixture
async def own_database(settings: UserSettings, client: httpx.AsyncClient) -> Any:  # noqa: ANN401 - a generator
    database = Database(settings.database_url)
    yield database
    await database.engine.dispose()


async def read(
    client: httpx.AsyncClient, headers: dict[str, str], *, after: int = 0, mark: str = ""
) -> AccessFeed:
    asked: dict[str, str | int] = {"after": after, "mark": mark}
    response = await client.get("/v1/internal/access-feed", params=asked, headers=headers)
    assert response.status_code == 200, response.text
    return AccessFeed.model_validate_json(response.content)


async def end_session(database: Database, session_id: str) -> None:
    async with database.sessions.begin() as session:
        ending = update(SessionRow).where(SessionRow.session_id == session_id)
        await session.execute(of_every_tenant(ending.values(ended_at_ms=epoch_ms()), "the test"))
        await note_change(session, Subject.SESSION, session_id)


def session_of(database: sqlite3.Connection) -> str:
    return str(database.execute("SELECT session_id FROM sessions").fetchone()[0])


class TestFeed:
    async def test_begins_with_everything_that_is(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        key: dict[str, Any],
        service_headers: dict[str, str],
        database: sqlite3.Connection,
        own_database: Database,
    ) -> None:
        await end_session(own_database, session_of(database))

        feed = await read(client, service_headers)

        known = {each.institution.institution_id: each for each in feed.institutions}
        assert set(known) == {PLATFORM_INSTITUTION_ID, admin.institution_id}
        ours = known[admin.institution_id]
        assert (ours.suspended, ours.allowance.tier) == (False, "starter")
        assert [(each.key_id, each.institution_id, each.revoked) for each in feed.api_keys] == [
            (key["key_id"], admin.institution_id, False)
        ]
        assert [each.session_id for each in feed.ended_sessions] == [session_of(database)]
        assert (
            3500 < feed.ended_sessions[0].until - epoch_ms() // 1000 <= 3601
        )  # the longest life of any token
        assert (feed.after, feed.version, feed.more) == (0, 4, False)

    async def test_goes_on_with_what_changed(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], service_headers: dict[str, str]
    ) -> None:
        await make_key(client, admin)
        known = await read(client, service_headers)
        await client.delete(f"/v1/api-keys/{key['key_id']}", headers=admin.headers)

        feed = await read(client, service_headers, after=known.version, mark=known.mark)
        nothing = await read(client, service_headers, after=feed.version, mark=feed.mark)

        assert (feed.after, feed.version) == (known.version, known.version + 1)
        assert [(each.key_id, each.revoked) for each in feed.api_keys] == [(key["key_id"], True)]
        assert (feed.institutions, feed.ended_sessions) == ((), ())
        assert (nothing.version, nothing.mark, nothing.api_keys) == (feed.version, feed.mark, ())
        assert (nothing.after, nothing.more) == (feed.version, False)

    @pytest.mark.parametrize("column", ["revoked_at_ms", "expires_at_ms"])
    async def test_begins_without_keys_and_sessions_that_have_ended(
        self,
        client: httpx.AsyncClient,
        key: dict[str, Any],
        service_headers: dict[str, str],
        database: sqlite3.Connection,
        own_database: Database,
        column: str,
    ) -> None:
        await end_session(own_database, session_of(database))
        database.execute("UPDATE sessions SET access_expires_at_ms = 1, ended_at_ms = 1")
        database.execute(f"UPDATE api_keys SET {column} = 1")  # noqa: S608 - names of our own

        feed = await read(client, service_headers)

        assert (feed.api_keys, feed.ended_sessions, feed.version) == ((), (), 4)

    async def test_starts_over_for_one_who_knows_more_than_a_restored_database(
        self, client: httpx.AsyncClient, key: dict[str, Any], service_headers: dict[str, str]
    ) -> None:
        known = await read(client, service_headers)

        feed = await read(client, service_headers, after=1000, mark=known.mark)

        assert (feed.after, feed.version, len(feed.institutions), len(feed.api_keys)) == (0, 3, 2, 1)

    @pytest.mark.parametrize("mark", ["", "0123456789abcdef"])
    async def test_starts_over_for_one_who_knows_a_version_by_another_mark(
        self, client: httpx.AsyncClient, key: dict[str, Any], service_headers: dict[str, str], mark: str
    ) -> None:
        feed = await read(client, service_headers, after=3, mark=mark)

        assert (feed.after, feed.version, len(feed.institutions), len(feed.api_keys)) == (0, 3, 2, 1)

    async def test_goes_on_for_one_whose_last_change_was_replaced_by_a_later_one_of_its_subject(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], service_headers: dict[str, str]
    ) -> None:
        known = await read(client, service_headers)
        await client.delete(f"/v1/api-keys/{key['key_id']}", headers=admin.headers)
        await make_key(client, admin)

        feed = await read(client, service_headers, after=known.version, mark=known.mark)

        assert (feed.after, feed.version, len(feed.institutions), len(feed.api_keys)) == (3, 5, 0, 2)

    async def test_comes_a_page_at_a_time(
        self, client: httpx.AsyncClient, admin: Admin, own_database: Database
    ) -> None:
        made = [(await make_key(client, admin))["key_id"] for _ in range(4)]
        feeds = AccessFeeds(HASH_KEY, page=2)
        pages: list[AccessFeed] = []
        async with own_database.sessions() as session:
            while not pages or pages[-1].more:
                after, mark = (pages[-1].version, pages[-1].mark) if pages else (0, "")
                pages.append(await feeds.read(session, after=after, mark=mark, now_ms=epoch_ms()))

        assert [(page.after, page.version, page.more) for page in pages] == [
            (0, 2, True),
            (2, 4, True),
            (4, 6, False),
        ]
        assert sorted(key.key_id for page in pages for key in page.api_keys) == sorted(made)

    async def test_holds_back_no_change_of_transactions_that_overlap(
        self, client: httpx.AsyncClient, admin: Admin, service_headers: dict[str, str]
    ) -> None:
        """Whoever reads while others write sees each change, and none of an earlier version later."""
        seen: list[str] = []
        known = await read(client, service_headers)
        writing = asyncio.gather(*(make_key(client, admin) for _ in range(12)))
        while not writing.done() or len(seen) < 12:
            feed = await read(client, service_headers, after=known.version, mark=known.mark)
            seen += [key.key_id for key in feed.api_keys]
            assert feed.version - known.version == len(feed.api_keys)
            known = feed
            await asyncio.sleep(0)

        assert sorted(seen) == sorted(key["key_id"] for key in await writing)

    async def test_says_the_same_after_a_restart(
        self,
        client: httpx.AsyncClient,
        key: dict[str, Any],
        service_headers: dict[str, str],
        settings: UserSettings,
    ) -> None:
        before = await read(client, service_headers)
        async with open_app_apart(create_app(SERVICE, settings)) as again:
            assert await read(again, service_headers) == before

    @pytest.mark.parametrize("after", ["-1", "x", "1.5", "9223372036854775808", ""])
    async def test_refuses_what_is_no_version(
        self, client: httpx.AsyncClient, service_headers: dict[str, str], after: str
    ) -> None:
        response = await client.get(f"/v1/internal/access-feed?after={after}", headers=service_headers)

        assert response.status_code == 422

    async def test_is_for_our_services_alone(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        path = "/v1/internal/access-feed"

        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=admin.headers)).status_code == 403
        assert (await client.get(path, headers={"X-API-Key": key["key"]})).status_code == 403


class TestForgetting:
    async def test_takes_away_ended_sessions_without_a_token_but_never_the_last_change(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        own_database: Database,
    ) -> None:
        await end_session(own_database, session_of(database))
        await end_session(own_database, "ses_gone")
        async with own_database.sessions.begin() as session:
            await forget_ended_sessions(session, now_ms=epoch_ms())
        with_token = database.execute("SELECT count(*) FROM access_changes").fetchone()
        database.execute("UPDATE sessions SET access_expires_at_ms = 1, ended_at_ms = 1")
        async with own_database.sessions.begin() as session:
            await forget_ended_sessions(session, now_ms=epoch_ms())
            version, _ = await last_change(session)

        left = database.execute("SELECT kind, version FROM access_changes ORDER BY version").fetchall()
        assert with_token == (4,)
        assert left == [("institution", 1), ("institution", 2), ("session", version)]

    async def test_of_marks_leaves_those_that_services_may_stand_on(
        self,
        admin: Admin,
        database: sqlite3.Connection,
        own_database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("user_service.access.repository.MARKS_KEPT", 2)
        for number in range(5):
            await end_session(own_database, f"ses_{number}")
        async with own_database.sessions.begin() as session:
            await forget_marks(session)
            version, mark = await last_change(session)

        left = database.execute("SELECT version, mark FROM access_marks ORDER BY version").fetchall()
        assert [number for number, _ in left] == [version - 1, version]
        assert left[-1] == (version, mark)


class TestKeyUses:
    async def test_keep_the_latest_time(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        key: dict[str, Any],
        service_headers: dict[str, str],
        database: sqlite3.Connection,
    ) -> None:
        async def tell(*times: int) -> Any:  # noqa: ANN401 - a column
            uses = [{"key_id": key["key_id"], "used_at_ms": time} for time in times]
            uses.append({"key_id": new_id("key"), "used_at_ms": 5})
            response = await client.post(
                "/v1/internal/key-uses", headers=service_headers, json={"uses": uses}
            )
            assert response.status_code == 204
            return database.execute("SELECT last_used_at_ms FROM api_keys").fetchone()[0]

        assert await tell(2000, 3000, 1000) == 3000
        assert await tell(2500) == 3000
        assert await tell(3001) == 3001
        assert await tell(2**50) <= epoch_ms()

    async def test_are_taken_from_services_that_may_tell(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        alert = bearer((await service_token(client, "alert_service", ALERT_SECRET)).json()["access_token"])

        taken = await client.post("/v1/internal/key-uses", headers=alert, json={"uses": []})
        refused = await client.post("/v1/internal/key-uses", headers=admin.headers, json={"uses": []})

        assert (taken.status_code, refused.status_code) == (204, 403)


class TestOwnVerifier:
    async def test_lets_nobody_in_whose_session_another_process_ended(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        own_database: Database,
    ) -> None:
        before = await client.get("/v1/users/me", headers=admin.headers)
        await end_session(own_database, session_of(database))

        after = await client.get("/v1/users/me", headers=admin.headers)

        assert (before.status_code, after.status_code) == (200, 401)
        assert problem_type(after) == "unauthenticated"

    async def test_lets_nobody_in_of_a_suspended_institution(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        key: dict[str, Any],
        database: sqlite3.Connection,
        own_database: Database,
    ) -> None:
        other = await register(client, email="eve@other.example")
        database.execute(
            "UPDATE institutions SET suspended_at_ms = 1 WHERE institution_id = ?", (admin.institution_id,)
        )
        async with own_database.sessions.begin() as session:
            await note_change(session, Subject.INSTITUTION, admin.institution_id)

        user = await client.get("/v1/users/me", headers=admin.headers)
        program = await client.get("/v1/api-keys", headers={"X-API-Key": key["key"]})
        neighbour = await client.get("/v1/users/me", headers=other.headers)

        assert (user.status_code, program.status_code, neighbour.status_code) == (401, 401, 200)
