import asyncio
import json
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from common.clock import epoch_ms, utc_now
from tests.api.user_service.appointed import join
from tests.api.user_service.conftest import Admin, exchange, make_key, problem_type, register
from tests.api.user_service.people import notices
from user_service.api_keys.service import MAX_KEYS
from user_service.settings import UserSettings

DAY_MS = 86_400_000


async def shown(client: httpx.AsyncClient, admin: Admin, key_id: str) -> dict[str, Any]:
    response = await client.get(f"/v1/api-keys/{key_id}", headers=admin.headers)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def rotate(client: httpx.AsyncClient, admin: Admin, key_id: str, **body: object) -> httpx.Response:
    return await client.post(f"/v1/api-keys/{key_id}/rotate", headers=admin.headers, json=body)


async def revoke(client: httpx.AsyncClient, admin: Admin, key_id: str) -> httpx.Response:
    return await client.delete(f"/v1/api-keys/{key_id}", headers=admin.headers)


async def is_let_in(client: httpx.AsyncClient, key: dict[str, Any]) -> bool:
    """Say whether user_service itself knows the key: it then refuses it only for its scope."""
    response = await client.get("/v1/api-keys", headers={"X-API-Key": key["key"]})
    assert response.status_code in {401, 403}
    return response.status_code == 403


def events(database: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = database.execute("SELECT body FROM identity_events ORDER BY sequence").fetchall()
    return [json.loads(body)["event"] for (body,) in rows if b'"api_key.' in body]


class TestCreating:
    async def test_shows_the_key_once_and_says_all_about_it(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        expires_at = (utc_now() + timedelta(days=30)).replace(microsecond=0)

        made = await make_key(
            client, admin, scopes=["decisions:read", "score:write"], expires_at=expires_at.isoformat()
        )

        text = made.pop("key")
        assert re.fullmatch(r"ask_test_[0-9a-z]{8}_[A-Za-z0-9_-]{43}", text)
        assert made["prefix"] == text[:17]
        assert made == await shown(client, admin, made["key_id"])
        assert datetime.fromisoformat(made["expires_at"]) == expires_at
        assert {name: made[name] for name in ("name", "scopes", "state", "created_by")} == {
            "name": "checkout",
            "scopes": ["score:write", "decisions:read"],
            "state": "active",
            "created_by": admin.user_id,
        }
        assert made["last_used_at"] is made["replaced_by"] is made["revoked_at"] is None

    async def test_keeps_nothing_of_the_text_but_its_prefix(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        key = await make_key(client, admin)
        await client.get("/v1/api-keys", headers={"X-API-Key": key["key"]})
        await exchange(client, key)

        secret = key["key"].removeprefix(key["prefix"] + "_")
        assert secret not in "\n".join(database.iterdump())
        assert secret not in capsys.readouterr().out
        assert secret not in (await client.get("/metrics")).text

    async def test_says_at_sight_whether_a_key_is_for_live_payments(self, client: httpx.AsyncClient) -> None:
        registered = await client.post(
            "/v1/institutions",
            json={
                "name": "Live Bank",
                "mode": "live",
                "base_currency": "EUR",
                "admin": {
                    "email": "a@live.example",
                    "password": "tide-and-lantern-42",
                    "full_name": "Ada Okafor",
                },
            },
        )
        headers = {"Authorization": f"Bearer {registered.json()['tokens']['access_token']}"}

        made = await client.post(
            "/v1/api-keys", headers=headers, json={"name": "a", "scopes": ["score:write"]}
        )

        assert made.json()["key"].startswith("ask_live_")

    @pytest.mark.parametrize(
        "changes",
        [
            {"scopes": []},
            {"scopes": ["api_keys:write"]},
            {"scopes": ["score:write", "users:write"]},
            {"scopes": ["alerts:write"]},
            {"scopes": ["everything"]},
            {"scopes": "score:write"},
            {"name": ""},
            {"name": " "},
            {"name": "a\nb"},
            {"expires_at": "2030-01-01"},
            {"expires_at": 1893456000},
            {"expires_at": "1893456000"},
            {"institution_id": "ins_other"},
            {"key": "mine"},
        ],
    )
    async def test_refuses_what_no_key_may_have(
        self, client: httpx.AsyncClient, admin: Admin, changes: dict[str, Any]
    ) -> None:
        body = {"name": "checkout", "scopes": ["score:write"], **changes}

        response = await client.post("/v1/api-keys", headers=admin.headers, json=body)

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"

    @pytest.mark.parametrize(
        "expires_at", ["2020-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "1969-01-01T00:00:00+00:00"]
    )
    async def test_refuses_an_expiry_that_is_past_or_never_comes(
        self, client: httpx.AsyncClient, admin: Admin, expires_at: str
    ) -> None:
        body = {"name": "checkout", "scopes": ["score:write"], "expires_at": expires_at}

        response = await client.post("/v1/api-keys", headers=admin.headers, json=body)

        assert (response.status_code, problem_type(response)) == (422, "expiry-out-of-range")

    async def test_ends_at_the_limit_even_for_requests_at_the_same_time(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        key = await make_key(client, admin)
        database.executemany(
            "INSERT INTO api_keys SELECT ?, institution_id, name, prefix, ?, scopes, created_by, created_at_ms,"
            " NULL, NULL, NULL, NULL FROM api_keys WHERE key_id = ?",
            [(f"key_{number}", f"{number:064}", key["key_id"]) for number in range(MAX_KEYS - 3)],
        )
        body = {"name": "one more", "scopes": ["score:write"]}

        answers = await asyncio.gather(
            *(client.post("/v1/api-keys", headers=admin.headers, json=body) for _ in range(6))
        )
        rotated = await rotate(client, admin, key["key_id"])
        await revoke(client, admin, "key_0")
        again = await client.post("/v1/api-keys", headers=admin.headers, json=body)

        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201, 201, 409, 409, 409, 409]
        assert {problem_type(answer) for answer in answers if answer.status_code == 409} == {"too-many-keys"}
        assert (rotated.status_code, again.status_code) == (201, 201)

    async def test_counts_what_was_replaced_and_still_works_so_that_no_chain_of_rotations_goes_around_it(
        self, client: httpx.AsyncClient, admin: Admin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("user_service.api_keys.service.MAX_WORKING_KEYS", 3)
        key = await make_key(client, admin)

        answers = []
        for _ in range(4):
            answers.append(await rotate(client, admin, key["key_id"], overlap_hours=1))
            if answers[-1].status_code == 201:
                key = answers[-1].json()

        assert [answer.status_code for answer in answers] == [201, 201, 409, 409]
        assert problem_type(answers[-1]) == "too-many-keys"
        assert (await rotate(client, admin, key["key_id"], overlap_hours=0)).status_code == 201


class TestListing:
    async def test_is_newest_first_a_page_at_a_time_without_the_keys(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        made = [await make_key(client, admin, name=f"number {number}") for number in range(5)]
        expected = sorted((key["key_id"] for key in made), reverse=True)

        first = (await client.get("/v1/api-keys?limit=3", headers=admin.headers)).json()
        rest = (
            await client.get(f"/v1/api-keys?limit=3&cursor={first['next_cursor']}", headers=admin.headers)
        ).json()

        assert [key["key_id"] for key in first["items"] + rest["items"]] == expected
        assert rest["next_cursor"] is None
        assert all("key" not in key for key in first["items"])

    @pytest.mark.parametrize(
        ("columns", "state"),
        [
            ({}, "active"),
            ({"expires_at_ms": 8 * DAY_MS}, "active"),
            ({"expires_at_ms": 6 * DAY_MS}, "expiring"),
            ({"expires_at_ms": 8 * DAY_MS, "replaced_by": "key_other"}, "expiring"),
            ({"expires_at_ms": -1}, "expired"),
            ({"expires_at_ms": -1, "revoked_at_ms": -2}, "revoked"),
        ],
    )
    async def test_says_whether_a_key_works(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        key: dict[str, Any],
        database: sqlite3.Connection,
        columns: dict[str, Any],
        state: str,
    ) -> None:
        for column, value in columns.items():
            stored = epoch_ms() + value if isinstance(value, int) else value
            database.execute(f"UPDATE api_keys SET {column} = ?", (stored,))  # noqa: S608 - names of our own

        assert (await shown(client, admin, key["key_id"]))["state"] == state

    async def test_is_for_admins_alone(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE users SET role = 'analyst'")
        login = await client.post(
            "/v1/auth/login", json={"email": admin.email, "password": "tide-and-lantern-42"}
        )
        headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
        path = f"/v1/api-keys/{key['key_id']}"

        answers = [
            await client.get("/v1/api-keys", headers=headers),
            await client.get(path, headers=headers),
            await client.post("/v1/api-keys", headers=headers, json={"name": "x", "scopes": ["score:write"]}),
            await client.post(f"{path}/rotate", headers=headers, json={}),
            await client.delete(path, headers=headers),
        ]

        assert [answer.status_code for answer in answers] == [403] * 5


class TestRotating:
    async def test_makes_a_key_like_the_other_which_goes_on_for_the_overlap(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        rotated = (await rotate(client, admin, key["key_id"], overlap_hours=2)).json()

        former = await shown(client, admin, key["key_id"])
        left = datetime.fromisoformat(former["expires_at"]) - datetime.now(UTC)  # noqa: TID251 - as a caller
        assert timedelta(hours=2) - timedelta(minutes=1) < left <= timedelta(hours=2)
        assert (former["state"], former["replaced_by"]) == ("expiring", rotated["key_id"])
        assert (rotated["name"], rotated["scopes"]) == (key["name"], key["scopes"])
        assert (rotated["state"], rotated["expires_at"]) == ("active", None)
        assert await is_let_in(client, key)
        assert await is_let_in(client, rotated)

    @pytest.mark.parametrize(
        ("body", "declared"),
        [
            (b"", {}),
            (b"", {"Content-Type": "application/json"}),
            (b"{}", {"Content-Type": "application/json"}),
        ],
    )
    async def test_needs_no_body_for_an_overlap_of_a_day(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        key: dict[str, Any],
        body: bytes,
        declared: dict[str, str],
    ) -> None:
        response = await client.post(
            f"/v1/api-keys/{key['key_id']}/rotate", headers={**admin.headers, **declared}, content=body
        )

        former = await shown(client, admin, key["key_id"])
        overlap = datetime.fromisoformat(former["expires_at"]) - datetime.fromisoformat(
            response.json()["created_at"]
        )
        assert response.status_code == 201, response.text
        assert (former["replaced_by"], overlap) == (response.json()["key_id"], timedelta(hours=24))

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [(b"{", "application/json", 400), (b"{}", "text/plain", 415), (b"null", "application/json", 422)],
    )
    async def test_reads_a_body_that_is_there_as_strictly_as_any(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        key: dict[str, Any],
        body: bytes,
        content_type: str,
        status: int,
    ) -> None:
        headers = {**admin.headers, "Content-Type": content_type}

        response = await client.post(f"/v1/api-keys/{key['key_id']}/rotate", headers=headers, content=body)

        assert response.status_code == status
        assert (await shown(client, admin, key["key_id"]))["replaced_by"] is None

    async def test_without_an_overlap_ends_the_other_at_once(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        rotated = (await rotate(client, admin, key["key_id"], overlap_hours=0)).json()

        assert not await is_let_in(client, key)
        assert await is_let_in(client, rotated)
        assert (await exchange(client, key)).status_code == 401

    async def test_gives_the_new_key_as_long_a_life_and_the_old_one_no_longer_one(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        key = await make_key(client, admin, expires_at=(utc_now() + timedelta(hours=3)).isoformat())

        rotated = (await rotate(client, admin, key["key_id"], overlap_hours=168)).json()

        former = await shown(client, admin, key["key_id"])
        life = datetime.fromisoformat(rotated["expires_at"]) - datetime.fromisoformat(rotated["created_at"])
        assert former["expires_at"] == key["expires_at"]
        assert abs(life - timedelta(hours=3)) < timedelta(minutes=1)

    async def test_works_once_for_requests_at_the_same_time(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        answers = await asyncio.gather(*(rotate(client, admin, key["key_id"]) for _ in range(4)))

        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        assert {problem_type(each) for each in answers if each.status_code == 409} == {"key-ended"}
        assert len((await client.get("/v1/api-keys", headers=admin.headers)).json()["items"]) == 2

    async def test_does_not_bring_back_a_revoked_key(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        await revoke(client, admin, key["key_id"])

        response = await rotate(client, admin, key["key_id"])

        assert (response.status_code, problem_type(response)) == (409, "key-ended")

    @pytest.mark.parametrize("hours", [-1, 169, 1.5, "24", True, None])
    async def test_takes_an_overlap_of_up_to_a_week(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], hours: object
    ) -> None:
        response = await rotate(client, admin, key["key_id"], overlap_hours=hours)

        assert response.status_code == 422


class TestRevoking:
    async def test_ends_the_key_and_its_tokens_at_once(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        token = (await exchange(client, key)).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        before = await client.get("/v1/api-keys", headers=bearer)
        was_let_in = await is_let_in(client, key)

        response = await revoke(client, admin, key["key_id"])

        assert (was_let_in, before.status_code, response.status_code) == (True, 403, 204)
        assert not await is_let_in(client, key)
        assert (await client.get("/v1/api-keys", headers=bearer)).status_code == 401
        assert (await shown(client, admin, key["key_id"]))["state"] == "revoked"

    async def test_a_second_time_changes_nothing(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], database: sqlite3.Connection
    ) -> None:
        await revoke(client, admin, key["key_id"])
        first = await shown(client, admin, key["key_id"])

        assert (await revoke(client, admin, key["key_id"])).status_code == 204
        assert await shown(client, admin, key["key_id"]) == first
        assert len(events(database)) == 2


class TestMails:
    async def test_tell_the_admins_what_was_done_to_which_key_and_by_whom(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], database: sqlite3.Connection
    ) -> None:
        rotated = (await rotate(client, admin, key["key_id"])).json()
        await revoke(client, admin, rotated["key_id"])

        made, replaced, ended = notices(database, "api_key")
        former = await shown(client, admin, key["key_id"])
        until = datetime.fromisoformat(former["expires_at"]).strftime("%Y-%m-%d %H:%M UTC")
        same = {
            "institution_name": "Harbour Payments",
            "institution_mode": "sandbox",
            "key_name": "checkout",
            "scopes": "score:write",
            "by": "Ada Okafor (ada@harbour.example)",
        }
        old = {"key_id": key["key_id"], "key_prefix": key["prefix"]}
        new = {"key_id": rotated["key_id"], "key_prefix": rotated["prefix"]}
        assert [notice["facts"] for notice in (made, replaced, ended)] == [
            {**same, **old, "change": "created"},
            {**same, **new, "change": "rotated", "key_before": key["key_id"], "works_until": until},
            {**same, **new, "change": "revoked"},
        ]
        assert [notice["recipients"] for notice in (made, replaced, ended)] == [[admin.email]] * 3

    async def test_never_hold_the_key(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], database: sqlite3.Connection
    ) -> None:
        rotated = (await rotate(client, admin, key["key_id"])).json()

        mails = str(notices(database, "api_key"))
        for each in (key, rotated):
            assert each["key"].removeprefix(each["prefix"]) not in mails

    async def test_are_not_written_when_nothing_was_done(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], database: sqlite3.Connection
    ) -> None:
        await revoke(client, admin, key["key_id"])
        told = len(notices(database, "api_key"))

        await revoke(client, admin, key["key_id"])
        await rotate(client, admin, key["key_id"])

        assert len(notices(database, "api_key")) == told == 2


class TestMaker:
    @pytest.mark.parametrize(
        ("change", "maker"),
        [
            ("role = role", "active"),
            ("role = 'builder'", "lowered"),
            ("disabled_at_ms = 1", "disabled"),
        ],
    )
    async def test_is_shown_with_what_has_become_of_them(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        settings: UserSettings,
        database: sqlite3.Connection,
        change: str,
        maker: str,
    ) -> None:
        other = await join(client, settings, "sam@harbour.example", institution_id=admin.institution_id)
        key = await make_key(client, other)
        database.execute(f"UPDATE users SET {change} WHERE user_id = ?", (other.user_id,))  # noqa: S608 - ours

        (listed,) = (await client.get("/v1/api-keys", headers=admin.headers)).json()["items"]

        assert (listed["created_by"], listed["maker"], listed["state"]) == (other.user_id, maker, "active")
        assert await shown(client, admin, key["key_id"]) == listed

    async def test_makes_none_once_they_were_lowered_or_disabled(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], database: sqlite3.Connection
    ) -> None:
        """Also with a request that was let in a moment before: the list of what they leave behind is complete."""
        body = {"name": "late", "scopes": ["score:write"]}
        database.execute("UPDATE users SET role = 'viewer'")
        lowered = [
            await client.post("/v1/api-keys", headers=admin.headers, json=body),
            await rotate(client, admin, key["key_id"]),
        ]
        database.execute("UPDATE users SET disabled_at_ms = 1")
        disabled = await client.post("/v1/api-keys", headers=admin.headers, json=body)

        assert [answer.status_code for answer in [*lowered, disabled]] == [403, 403, 401]
        assert database.execute("SELECT key_id FROM api_keys").fetchall() == [(key["key_id"],)]


class TestAnotherInstitution:
    async def test_finds_none_of_these_keys(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any]
    ) -> None:
        other = await register(client, email="eve@other.example")
        path = f"/v1/api-keys/{key['key_id']}"

        answers = [
            await client.get(path, headers=other.headers),
            await rotate(client, other, key["key_id"]),
            await client.delete(path, headers=other.headers),
            await client.get("/v1/api-keys/key_unknown", headers=other.headers),
        ]

        assert [(each.status_code, problem_type(each)) for each in answers] == [(404, "not-found")] * 4
        assert (await client.get("/v1/api-keys", headers=other.headers)).json()["items"] == []
        assert await is_let_in(client, key)


class TestEvents:
    async def test_tell_who_did_what_to_which_key(
        self, client: httpx.AsyncClient, admin: Admin, key: dict[str, Any], database: sqlite3.Connection
    ) -> None:
        rotated = (await rotate(client, admin, key["key_id"])).json()
        await revoke(client, admin, key["key_id"])

        found = events(database)

        assert [(event["action"], event["subject"]["id"]) for event in found] == [
            ("api_key.created", key["key_id"]),
            ("api_key.rotated", key["key_id"]),
            ("api_key.created", rotated["key_id"]),
            ("api_key.revoked", key["key_id"]),
        ]
        assert {event["actor"]["id"] for event in found} == {admin.user_id}
        assert found[0]["details"] == {"scopes": ["score:write"], "expires_at_ms": None}
        waiting = database.execute("SELECT count(*) FROM outbox WHERE target = 'audit'").fetchone()
        assert waiting[0] >= len(found)
