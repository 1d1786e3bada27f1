"""What operators see and change, and what a tenant sees and changes of itself."""

import sqlite3
from typing import Any

import httpx
import pytest

from common.app import create_app
from tests.api.user_service.appointed import changed, events_of, feed_version, join, register_live
from tests.api.user_service.conftest import PASSWORD, Admin, bearer, problem_type, register, registration
from tests.api.user_service.people import accept, newest_token, notices, session_ids
from tests.asgi import open_app_apart
from user_service.institutions.tiers import LIMITS_BY_TIER
from user_service.main import SERVICE
from user_service.settings import UserSettings


@pytest.fixture
async def operator(client: httpx.AsyncClient, settings: UserSettings) -> Admin:
    return await join(client, settings, "op@platform.example")


class TestThePlatformsInstitution:
    async def test_is_there_from_the_first_start_on_and_recorded(self, database: sqlite3.Connection) -> None:
        query = "SELECT mode, base_currency, tier FROM institutions WHERE institution_id = 'platform'"

        assert database.execute(query).fetchall() == [("live", "EUR", "enterprise")]
        assert events_of(database, "platform")[0]["action"] == "institution.registered"

    async def test_is_made_once(self, settings: UserSettings) -> None:
        for _ in range(2):
            async with open_app_apart(create_app(SERVICE, settings)):
                pass

        with sqlite3.connect(settings.database_url.get_secret_value().removeprefix("sqlite:///")) as database:
            assert [event["action"] for event in events_of(database, "platform")] == [
                "institution.registered",
                "signing_key.created",
            ]

    async def test_is_no_tenant(self, client: httpx.AsyncClient, operator: Admin, admin: Admin) -> None:
        listed = await client.get("/v1/institutions", headers=operator.headers)
        read = await client.get("/v1/institutions/platform", headers=operator.headers)
        changed = await client.patch(
            "/v1/institutions/platform", headers=operator.headers, json={"suspended": True}
        )

        assert [item["institution_id"] for item in listed.json()["items"]] == [admin.institution_id]
        assert (read.status_code, changed.status_code) == (404, 404)


class TestListingInstitutions:
    async def test_shows_pages_from_the_newest_to_the_oldest(
        self, client: httpx.AsyncClient, operator: Admin
    ) -> None:
        made = [
            (await register(client, email=f"a{number}@harbour.example")).institution_id for number in range(5)
        ]
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 2}
        sizes = []
        while True:
            page = (await client.get("/v1/institutions", headers=operator.headers, params=query)).json()
            seen += [item["institution_id"] for item in page["items"]]
            sizes.append(len(page["items"]))
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]

        assert seen == sorted(made, reverse=True)
        assert sizes == [2, 2, 1]

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({"mode": "live"}, ["Quay Bank"]),
            ({"mode": "sandbox"}, ["Harbour Payments"]),
            ({"name": "quay"}, ["Quay Bank"]),
            ({"name": "%"}, []),
            ({"name": "ank"}, []),
            ({"suspended": "true"}, ["Quay Bank"]),
            ({"suspended": "false"}, ["Harbour Payments"]),
            ({"suspended": "true", "mode": "sandbox"}, []),
        ],
    )
    async def test_filters(
        self,
        client: httpx.AsyncClient,
        operator: Admin,
        admin: Admin,
        query: dict[str, str],
        names: list[str],
    ) -> None:
        live = await register_live(client)
        await client.patch(
            f"/v1/institutions/{live.institution_id}", headers=operator.headers, json={"suspended": True}
        )

        found = await client.get("/v1/institutions", headers=operator.headers, params=query)

        assert [item["name"] for item in found.json()["items"]] == names

    @pytest.mark.parametrize("cursor", ["MTI", "%%%", "aW5zXzAx", "é"])
    async def test_refuses_a_cursor_it_did_not_give_out(
        self, client: httpx.AsyncClient, operator: Admin, cursor: str
    ) -> None:
        response = await client.get("/v1/institutions", headers=operator.headers, params={"cursor": cursor})

        assert problem_type(response) == "cursor-invalid"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/institutions"),
            ("GET", "/v1/institutions/{own}"),
            ("PATCH", "/v1/institutions/{own}"),
            ("GET", "/v1/signing-keys"),
            ("POST", "/v1/signing-keys/rotations"),
            ("GET", "/v1/platform/approvals"),
        ],
    )
    async def test_everything_here_is_for_operators_alone(
        self, client: httpx.AsyncClient, admin: Admin, method: str, path: str
    ) -> None:
        address = path.format(own=admin.institution_id)

        refused = await client.request(method, address, headers=admin.headers)
        anonymous = await client.request(method, address)

        assert (refused.status_code, anonymous.status_code) == (403, 401)


class TestChangingAnInstitution:
    async def test_a_new_tier_is_recorded_and_told_to_every_service(
        self, client: httpx.AsyncClient, operator: Admin, admin: Admin, database: sqlite3.Connection
    ) -> None:
        before = feed_version(database, admin.institution_id)

        response = await client.patch(
            f"/v1/institutions/{admin.institution_id}", headers=operator.headers, json={"tier": "growth"}
        )

        assert response.status_code == 200, response.text
        assert response.json()["allowance"]["tier"] == "growth"
        read = await client.get(f"/v1/institutions/{admin.institution_id}", headers=operator.headers)
        assert read.json() == response.json()
        event = events_of(database, admin.institution_id)[-1]
        assert event["action"] == "institution.changed"
        assert event["actor"] == {"kind": "user", "id": operator.user_id}
        assert event["details"] == {"tier": "growth", "tier_before": "starter"}
        assert feed_version(database, admin.institution_id) > before

    async def test_suspending_and_resuming_is_recorded_and_told_to_every_service(
        self, client: httpx.AsyncClient, operator: Admin, admin: Admin, database: sqlite3.Connection
    ) -> None:
        address = f"/v1/institutions/{admin.institution_id}"
        versions = [feed_version(database, admin.institution_id)]
        suspended_at = []
        for suspended in (True, False):
            response = await client.patch(address, headers=operator.headers, json={"suspended": suspended})
            suspended_at.append(response.json()["suspended_at"])
            versions.append(feed_version(database, admin.institution_id))

        assert suspended_at[0] is not None
        assert suspended_at[1] is None
        assert versions == sorted(set(versions))
        actions = [event["action"] for event in events_of(database, admin.institution_id)]
        assert actions[-2:] == ["institution.suspended", "institution.resumed"]

    async def test_people_of_a_suspended_institution_cannot_log_in_until_it_is_resumed(
        self, client: httpx.AsyncClient, operator: Admin, admin: Admin
    ) -> None:
        address = f"/v1/institutions/{admin.institution_id}"
        credentials = {"email": admin.email, "password": PASSWORD}
        await client.patch(address, headers=operator.headers, json={"suspended": True})

        refused = await client.post("/v1/auth/login", json=credentials)
        await client.patch(address, headers=operator.headers, json={"suspended": False})
        again = await client.post("/v1/auth/login", json=credentials)
        renewed = await client.post("/v1/auth/refresh", json={"refresh_token": admin.refresh_token})

        assert problem_type(refused) == "institution-suspended"
        assert (again.status_code, renewed.status_code) == (200, 200)

    async def test_what_is_so_already_changes_nothing(
        self, client: httpx.AsyncClient, operator: Admin, admin: Admin, database: sqlite3.Connection
    ) -> None:
        events = len(events_of(database, admin.institution_id))
        version = feed_version(database, admin.institution_id)

        response = await client.patch(
            f"/v1/institutions/{admin.institution_id}",
            headers=operator.headers,
            json={"tier": "starter", "suspended": False},
        )

        assert response.status_code == 200
        assert len(events_of(database, admin.institution_id)) == events
        assert feed_version(database, admin.institution_id) == version

    @pytest.mark.parametrize(
        "change",
        [{}, {"tier": None}, {"tier": "gold"}, {"suspended": "yes"}, {"suspended": 1}, {"mode": "live"}],
    )
    async def test_refuses_anything_else(
        self, client: httpx.AsyncClient, operator: Admin, admin: Admin, change: dict[str, Any]
    ) -> None:
        response = await client.patch(
            f"/v1/institutions/{admin.institution_id}", headers=operator.headers, json=change
        )

        assert response.status_code == 422

    async def test_of_an_unknown_one_is_not_found(self, client: httpx.AsyncClient, operator: Admin) -> None:
        response = await client.patch(
            "/v1/institutions/ins_unknown", headers=operator.headers, json={"tier": "growth"}
        )

        assert response.status_code == 404


class TestOwnInstitution:
    async def test_is_shown_to_its_people_with_what_it_is_given(
        self, client: httpx.AsyncClient, admin: Admin, operator: Admin
    ) -> None:
        own = await client.get("/v1/institution", headers=admin.headers)
        platform = await client.get("/v1/institution", headers=operator.headers)

        assert (
            own.json()
            == (await client.get(f"/v1/institutions/{admin.institution_id}", headers=operator.headers)).json()
        )
        assert (
            own.json()["allowance"]["requests_per_second"]
            == next(iter(LIMITS_BY_TIER.values())).requests_per_second
        )
        assert platform.json()["institution_id"] == "platform"

    async def test_its_admin_changes_name_and_what_happens_over_the_quota(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        before = feed_version(database, admin.institution_id)

        response = await client.patch(
            "/v1/institution",
            headers=admin.headers,
            json={"name": "Harbour and Sons", "over_quota": "block"},
        )

        assert response.json()["name"] == "Harbour and Sons"
        assert response.json()["allowance"]["over_quota"] == "block"
        assert (await client.get("/v1/institution", headers=admin.headers)).json() == response.json()
        event = events_of(database, admin.institution_id)[-1]
        assert event["details"] == {
            "changed": "name",
            "over_quota": "block",
            "over_quota_before": "allow_and_warn",
        }
        assert feed_version(database, admin.institution_id) > before

    @pytest.mark.parametrize(
        "change", [{}, {"tier": "enterprise"}, {"suspended": False}, {"name": " "}, {"over_quota": None}]
    )
    async def test_takes_nothing_that_an_admin_may_not_change(
        self, client: httpx.AsyncClient, admin: Admin, change: dict[str, Any]
    ) -> None:
        assert (await client.patch("/v1/institution", headers=admin.headers, json=change)).status_code == 422

    async def test_operators_change_nothing_this_way(
        self, client: httpx.AsyncClient, operator: Admin
    ) -> None:
        response = await client.patch("/v1/institution", headers=operator.headers, json={"name": "Mine"})

        assert response.status_code == 403


class TestRegistrationTier:
    async def test_is_what_new_institutions_are_given(self, settings: UserSettings) -> None:
        chosen = changed(settings, registration_tier="enterprise")
        async with open_app_apart(create_app(SERVICE, chosen)) as client:
            admin = await register(client)

            own = await client.get("/v1/institution", headers=admin.headers)

        assert own.json()["allowance"]["tier"] == "enterprise"
        assert own.json()["allowance"]["decisions_per_month"] is None


def without_password(*, email: str = "ada@harbour.example") -> dict[str, Any]:
    body = registration(email=email)
    del body["admin"]["password"]
    return body


class TestClosedRegistration:
    @pytest.fixture
    def settings(self, settings: UserSettings) -> UserSettings:
        return changed(settings, registration="closed")

    async def test_is_for_operators_alone(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        by_operator = await client.post("/v1/institutions", headers=operator.headers, json=without_password())
        joined = await accept(client, newest_token(database, "invitation"))
        token = joined.json()["access_token"]
        body = without_password(email="eve@h.example")
        anonymous = await client.post("/v1/institutions", json=body)
        by_admin = await client.post("/v1/institutions", headers=bearer(token), json=body)
        forged = await client.post("/v1/institutions", headers=bearer(token + "x"), json=body)

        assert by_operator.status_code == 201
        assert (anonymous.status_code, by_admin.status_code) == (403, 403)
        assert problem_type(anonymous) == problem_type(by_admin) == "registration-closed"
        assert forged.status_code == 401
        assert institutions(database) == 1

    async def test_gives_the_operator_no_session_and_mails_the_admin_an_invitation(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        response = await client.post("/v1/institutions", headers=operator.headers, json=without_password())

        made = response.json()
        week_s = 7 * 86_400
        assert made == {
            "state": "admin_invited",
            "institution_id": made["institution_id"],
            "user_id": made["user_id"],
            "expires_in": week_s,
        }
        (mail,) = notices(database, "invitation")
        assert mail["recipients"] == ["ada@harbour.example"]
        assert mail["facts"] == {
            "institution_name": "Harbour Payments",
            "institution_mode": "sandbox",
            "role": "admin",
            "invited_by_name": "Grace Adeyemi",
        }
        assert session_ids(database, made["user_id"]) == set()

    async def test_records_the_operator_as_who_did_it(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        made = (
            await client.post("/v1/institutions", headers=operator.headers, json=without_password())
        ).json()

        actor = {"kind": "user", "id": operator.user_id}
        recorded = [
            (event["action"], event["actor"], event["subject"]["id"])
            for event in events_of(database, made["institution_id"])
        ]
        assert recorded == [
            ("institution.registered", actor, made["institution_id"]),
            ("user.invited", actor, made["user_id"]),
        ]

    async def test_lets_the_admin_join_with_a_password_of_their_own(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        made = (
            await client.post("/v1/institutions", headers=operator.headers, json=without_password())
        ).json()
        before = await client.post(
            "/v1/auth/login", json={"email": "ada@harbour.example", "password": PASSWORD}
        )

        joined = await accept(client, newest_token(database, "invitation"))

        headers = bearer(joined.json()["access_token"])
        own = await client.get("/v1/users/me", headers=headers)
        seen = await client.get("/v1/institution", headers=headers)
        assert before.status_code == 401
        assert (own.json()["user_id"], own.json()["role"]) == (made["user_id"], "admin")
        assert seen.json()["institution_id"] == made["institution_id"]

    async def test_refuses_a_password_that_an_operator_chooses(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        response = await client.post("/v1/institutions", headers=operator.headers, json=registration())

        assert response.status_code == 422
        assert [error["field"] for error in response.json()["errors"]] == ["body.admin.password"]
        assert PASSWORD not in response.text
        assert institutions(database) == 0

    async def test_refuses_an_address_that_has_an_account(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        body = without_password(email=operator.email.upper())

        response = await client.post("/v1/institutions", headers=operator.headers, json=body)

        assert (response.status_code, problem_type(response)) == (409, "email-taken")
        assert institutions(database) == 0
        assert notices(database, "invitation") == []

    async def test_takes_nothing_from_an_operator_who_was_disabled_a_moment_ago(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        disabling = "UPDATE users SET disabled_at_ms = 1 WHERE user_id = ?"
        database.execute(disabling, (operator.user_id,))

        response = await client.post("/v1/institutions", headers=operator.headers, json=without_password())

        assert response.status_code == 401
        assert institutions(database) == 0


class TestOtherRegistration:
    @pytest.mark.parametrize("policy", ["open", "verified"])
    async def test_takes_a_password(
        self, settings: UserSettings, database: sqlite3.Connection, policy: str
    ) -> None:
        async with open_app_apart(create_app(SERVICE, changed(settings, registration=policy))) as client:
            response = await client.post("/v1/institutions", json=without_password())

        assert (response.status_code, problem_type(response)) == (422, "invalid-request")
        assert response.json()["errors"] == [{"field": "body.admin.password", "message": "Field required"}]
        assert institutions(database) == 0


def institutions(database: sqlite3.Connection) -> int:
    """Return how many tenants there are."""
    query = "SELECT count(*) FROM institutions WHERE institution_id != 'platform'"
    return int(database.execute(query).fetchone()[0])
