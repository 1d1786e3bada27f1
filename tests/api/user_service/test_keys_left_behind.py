"""API keys of somebody who is disabled or lowered: they go on, everybody is told, and they end when that is wanted."""

import sqlite3
from typing import Any

import httpx
import pytest

from common.clock import epoch_ms
from common.db import Database
from tests.api.user_service.appointed import events_of, join
from tests.api.user_service.conftest import Admin, exchange, make_key
from tests.api.user_service.people import change, notices
from user_service.operators.appointing import appoint
from user_service.settings import UserSettings

TAKING_AWAY: list[dict[str, Any]] = [{"disabled": True}, {"role": "builder"}]


@pytest.fixture
async def other(client: httpx.AsyncClient, settings: UserSettings, admin: Admin) -> Admin:
    """A second admin of the institution."""
    return await join(client, settings, "sam@harbour.example", institution_id=admin.institution_id)


async def status_of(client: httpx.AsyncClient, key: dict[str, Any]) -> int:
    """Ask for what no key may see: 403 of one that is known, 401 of all others."""
    return (await client.get("/v1/api-keys", headers={"X-API-Key": key["key"]})).status_code


class TestWithoutRevoking:
    @pytest.mark.parametrize("taking_away", TAKING_AWAY)
    async def test_the_keys_go_on_and_the_answer_names_them(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, taking_away: dict[str, Any]
    ) -> None:
        key = await make_key(client, other)
        await make_key(client, admin, name="of another maker")
        ended = await make_key(client, other, name="revoked before")
        await client.delete(f"/v1/api-keys/{ended['key_id']}", headers=other.headers)

        response = await change(client, admin, other.user_id, **taking_away)

        assert response.json()["api_keys"] == [
            {
                "key_id": key["key_id"],
                "name": "checkout",
                "prefix": key["prefix"],
                "scopes": ["score:write"],
                "state": "active",
                "last_used_at": None,
            }
        ]
        assert await status_of(client, key) == 403
        listed = (await client.get("/v1/api-keys", headers=admin.headers)).json()["items"]
        maker = "disabled" if "disabled" in taking_away else "lowered"
        assert [each["maker"] for each in listed] == [maker, "active", maker]

    @pytest.mark.parametrize("harmless", [{"disabled": False}, {"role": "admin"}])
    async def test_what_takes_no_right_away_names_none(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, harmless: dict[str, Any]
    ) -> None:
        await make_key(client, other)

        response = await change(client, admin, other.user_id, **harmless)

        assert (response.status_code, response.json()["api_keys"]) == (200, [])

    async def test_a_lowered_maker_who_is_disabled_later_still_leaves_them_behind(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin
    ) -> None:
        key = await make_key(client, other)
        await change(client, admin, other.user_id, role="viewer")

        response = await change(client, admin, other.user_id, disabled=True)

        assert [each["key_id"] for each in response.json()["api_keys"]] == [key["key_id"]]

    async def test_another_admin_can_end_them(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin
    ) -> None:
        key = await make_key(client, other)
        await change(client, admin, other.user_id, disabled=True)

        await client.delete(f"/v1/api-keys/{key['key_id']}", headers=admin.headers)

        assert await status_of(client, key) == 401


class TestRevoking:
    @pytest.mark.parametrize("taking_away", TAKING_AWAY)
    async def test_ends_all_keys_of_that_maker_and_no_other(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        other: Admin,
        database: sqlite3.Connection,
        taking_away: dict[str, Any],
    ) -> None:
        keys = [await make_key(client, other, name=f"number {number}") for number in range(3)]
        mine = await make_key(client, admin)
        exchanged = (await exchange(client, keys[0])).json()["access_token"]

        response = await change(client, admin, other.user_id, revoke_api_keys=True, **taking_away)

        named = {each["key_id"]: each["state"] for each in response.json()["api_keys"]}
        assert named == {key["key_id"]: "revoked" for key in keys}
        assert [await status_of(client, key) for key in [*keys, mine]] == [401, 401, 401, 403]
        bearer = {"Authorization": f"Bearer {exchanged}"}
        assert (await client.get("/v1/api-keys", headers=bearer)).status_code == 401

    async def test_is_recorded_key_by_key_and_told_to_all_services(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        keys = sorted([(await make_key(client, other))["key_id"] for _ in range(2)])
        feed = "SELECT version FROM access_changes WHERE kind = 'api_key' ORDER BY subject_id"
        told_before = database.execute(feed).fetchall()

        await change(client, admin, other.user_id, disabled=True, revoke_api_keys=True)

        done = events_of(database, admin.institution_id)[-4:]
        assert [event["action"] for event in done] == [
            "user.disabled",
            "api_key.revoked",
            "api_key.revoked",
            "session.ended",
        ]
        assert [event["subject"]["id"] for event in done[1:3]] == keys
        assert {event["actor"]["id"] for event in done} == {admin.user_id}
        assert {event["details"]["made_by"] for event in done[1:3]} == {other.user_id}
        told = database.execute(feed).fetchall()
        assert [after > before for before, after in zip(told_before, told, strict=True)] == [True, True]

    async def test_is_done_later_too(self, client: httpx.AsyncClient, admin: Admin, other: Admin) -> None:
        key = await make_key(client, other)
        await change(client, admin, other.user_id, disabled=True)

        again = await change(client, admin, other.user_id, disabled=True, revoke_api_keys=True)

        assert [each["state"] for each in again.json()["api_keys"]] == ["revoked"]
        assert await status_of(client, key) == 401

    @pytest.mark.parametrize(
        "body",
        [
            {"revoke_api_keys": True},
            {"revoke_api_keys": True, "disabled": False},
            {"revoke_api_keys": True, "role": "admin"},
            {"revoke_api_keys": "yes", "disabled": True},
            {"revoke_api_keys": None, "disabled": True},
        ],
    )
    async def test_is_refused_where_the_maker_could_make_new_ones(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, body: dict[str, Any]
    ) -> None:
        key = await make_key(client, other)

        response = await change(client, admin, other.user_id, **body)

        assert response.status_code == 422
        assert await status_of(client, key) == 403

    async def test_ends_nothing_when_the_change_is_refused(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin
    ) -> None:
        key = await make_key(client, admin)

        response = await change(client, admin, admin.user_id, disabled=True, revoke_api_keys=True)

        assert response.status_code == 409
        assert await status_of(client, key) == 403


class TestMails:
    async def test_the_other_admins_are_told_with_the_keys(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        key = await make_key(client, other)

        await change(client, admin, other.user_id, disabled=True)

        (notice,) = notices(database, "member_changed")
        assert notice["recipients"] == [admin.email]
        assert notice["facts"] == {
            "institution_name": "Harbour Payments",
            "institution_mode": "sandbox",
            "member": "Grace Adeyemi (sam@harbour.example)",
            "change": "disabled",
            "by": "Ada Okafor (ada@harbour.example)",
            "api_keys": "1 still working",
            "key_1": f"{key['prefix']}... ({key['key_id']}): checkout",
        }
        assert notices(database, "role_changed") == []
        assert key["key"] not in str(notice)

    async def test_say_that_keys_were_revoked_in_one_mail(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        for number in range(3):
            await make_key(client, other, name=f"number {number}")
        before = len(notices(database, "api_key"))

        await change(client, admin, other.user_id, disabled=True, revoke_api_keys=True)

        (notice,) = notices(database, "member_changed")
        assert notice["facts"]["api_keys"] == "3 revoked"
        assert len(notices(database, "api_key")) == before

    async def test_name_at_most_twenty_keys_and_count_the_others(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        key = await make_key(client, other, name="k" * 256)
        now = epoch_ms()
        database.executemany(
            "INSERT INTO api_keys SELECT ?, institution_id, name, prefix, ?, scopes, created_by, ?,"
            " NULL, NULL, NULL, NULL FROM api_keys WHERE key_id = ?",
            [(f"key_{number}", f"{number:064}", now, key["key_id"]) for number in range(24)],
        )

        response = await change(client, admin, other.user_id, disabled=True)

        (notice,) = notices(database, "member_changed")
        assert len(response.json()["api_keys"]) == 25
        assert notice["facts"]["api_keys"] == "25 still working"
        assert [f"key_{number}" in notice["facts"] for number in (1, 20, 21)] == [True, True, False]
        assert notice["facts"]["further_keys"] == "5, see GET /v1/api-keys"

    async def test_a_new_role_is_told_to_its_owner_and_to_the_other_admins(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        await change(client, admin, other.user_id, role="viewer")

        (to_owner,), (to_others,) = notices(database, "role_changed"), notices(database, "member_changed")
        assert to_owner["recipients"] == [other.email]
        assert to_owner["facts"] == {
            "institution_name": "Harbour Payments",
            "institution_mode": "sandbox",
            "role": "viewer",
            "role_before": "admin",
            "by": "Ada Okafor (ada@harbour.example)",
        }
        assert to_others["recipients"] == [admin.email]
        assert to_others["facts"]["change"] == "given the role viewer instead of admin"
        assert "api_keys" not in to_others["facts"]

    async def test_the_same_role_again_is_told_to_nobody(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        await change(client, admin, other.user_id, role="admin")

        assert notices(database, "role_changed") == notices(database, "member_changed") == []

    async def test_of_a_command_on_the_machine_name_it(
        self,
        client: httpx.AsyncClient,
        settings: UserSettings,
        admin: Admin,
        other: Admin,
        database: sqlite3.Connection,
    ) -> None:
        await change(client, admin, other.user_id, role="viewer")

        await appoint_again(settings, other)

        assert notices(database, "role_changed")[-1]["facts"]["role"] == "admin"
        assert notices(database, "member_changed")[-1]["recipients"] == [admin.email]
        assert notices(database, "member_changed")[-1]["facts"]["by"].startswith("A command on the machine")


async def appoint_again(settings: UserSettings, person: Admin) -> None:
    """Do what the command does that makes somebody an admin."""
    database = Database(settings.database_url)
    try:
        async with database.sessions.begin() as session:
            await appoint(
                session, person.institution_id, email=person.email, full_name="-", now_ms=epoch_ms()
            )
    finally:
        await database.engine.dispose()
