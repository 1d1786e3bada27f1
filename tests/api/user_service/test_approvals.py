"""What needs a second person: granting admin, and rotating the signing key."""

import asyncio
import sqlite3
from datetime import datetime
from typing import Any

import httpx
import pytest

from common.clock import epoch_ms
from common.four_eyes import LIFETIME_MS
from tests.api.user_service.appointed import events_of, join, log_in_again, register_live
from tests.api.user_service.conftest import Admin, problem_type
from tests.api.user_service.people import add_member, all_pages, notices
from user_service.settings import UserSettings

INVITATION = {"email": "new@harbour.example", "full_name": "New Person", "role": "admin"}


@pytest.fixture
async def live(client: httpx.AsyncClient) -> Admin:
    """The only admin of a live institution."""
    return await register_live(client)


@pytest.fixture
async def second(client: httpx.AsyncClient, settings: UserSettings, live: Admin) -> Admin:
    """A second admin of that institution."""
    return await join(client, settings, "sam@quay.example", institution_id=live.institution_id)


@pytest.fixture
async def operator(client: httpx.AsyncClient, settings: UserSettings) -> Admin:
    return await join(client, settings, "op@platform.example")


@pytest.fixture
async def other_operator(client: httpx.AsyncClient, settings: UserSettings, operator: Admin) -> Admin:
    return await join(client, settings, "op2@platform.example")


async def invite(client: httpx.AsyncClient, who: Admin, **changes: object) -> httpx.Response:
    return await client.post("/v1/users", headers=who.headers, json=INVITATION | changes)


async def asked(client: httpx.AsyncClient, who: Admin, **changes: object) -> str:
    response = await invite(client, who, **changes)
    assert response.status_code == 202, response.text
    return str(response.json()["approval_id"])


async def decide(client: httpx.AsyncClient, who: Admin, approval_id: str, how: str) -> httpx.Response:
    return await client.post(f"/v1/approvals/{approval_id}/{how}", headers=who.headers)


async def emails(client: httpx.AsyncClient, who: Admin) -> set[str]:
    found = await client.get("/v1/users", headers=who.headers)
    return {person["email"] for person in found.json()["items"]}


def actions(database: sqlite3.Connection, institution_id: str) -> list[str]:
    return [event["action"] for event in events_of(database, institution_id)]


class TestAsking:
    async def test_inviting_an_admin_waits_for_a_second_one(
        self, client: httpx.AsyncClient, live: Admin, second: Admin
    ) -> None:
        response = await invite(client, live)

        asked = response.json()
        assert response.status_code == 202
        assert asked["state"] == "pending"
        assert asked["action"] == "user.grant_admin"
        assert asked["details"] == INVITATION
        assert asked["subject_id"] == asked["approval_id"]
        assert asked["requested_by"] == live.user_id
        assert not asked["self_approved"]
        assert INVITATION["email"] not in await emails(client, live)

    @pytest.mark.parametrize("role", ["builder", "analyst", "viewer"])
    async def test_every_other_role_is_invited_at_once(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, role: str
    ) -> None:
        assert (await invite(client, live, role=role)).status_code == 201

    async def test_exactly_the_same_is_not_asked_for_twice(
        self, client: httpx.AsyncClient, live: Admin, second: Admin
    ) -> None:
        await asked(client, live)

        again = await invite(client, second)
        other = await invite(client, second, email="another@harbour.example")

        assert problem_type(again) == "approval-pending"
        assert other.status_code == 202

    async def test_an_address_with_an_account_is_refused_at_once(
        self, client: httpx.AsyncClient, live: Admin, second: Admin
    ) -> None:
        response = await invite(client, live, email=second.email.upper())

        assert problem_type(response) == "email-taken"

    async def test_is_recorded_without_address_and_name(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)

        event = events_of(database, live.institution_id)[-1]
        assert event["action"] == "approval.asked"
        assert event["subject"] == {"kind": "approval", "id": approval_id}
        assert event["details"] == {
            "action": "user.grant_admin",
            "subject_id": approval_id,
            "requested_by": live.user_id,
        }


class TestApproving:
    async def test_does_exactly_what_was_asked(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)

        response = await decide(client, second, approval_id, "approve")

        approved = response.json()
        assert response.status_code == 200, response.text
        assert (approved["state"], approved["decided_by"]) == ("approved", second.user_id)
        assert not approved["self_approved"]
        found = (await client.get("/v1/users", headers=live.headers)).json()["items"]
        invited = next(person for person in found if person["email"] == INVITATION["email"])
        assert (invited["role"], invited["full_name"]) == ("admin", "New Person")
        assert (invited["state"], invited["invited_by"]) == ("invited", live.user_id)
        given, done = events_of(database, live.institution_id)[-2:]
        assert (given["action"], given["actor"]["id"]) == ("approval.given", second.user_id)
        assert given["details"]["self_approved"] is False
        assert (done["action"], done["actor"]["id"]) == ("user.invited", live.user_id)
        assert done["details"] == {
            "role": "admin",
            "approval_id": approval_id,
            "requested_by": live.user_id,
            "approved_by": second.user_id,
        }

    async def test_does_what_was_asked_before_names_were_checked(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)
        database.execute("UPDATE approvals SET details = replace(details, 'New Person', 'evil.example')")

        response = await decide(client, second, approval_id, "approve")

        assert response.status_code == 200, response.text
        assert INVITATION["email"] in await emails(client, live)

    async def test_everything_it_does_is_recorded_with_the_request_and_both_people(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        viewer = await add_member(client, live, database, email="vera@quay.example", role="viewer")
        recorded = len(events_of(database, live.institution_id))
        asked = await client.patch(
            f"/v1/users/{viewer.user_id}", headers=live.headers, json={"role": "admin"}
        )
        approval_id = asked.json()["approval_id"]

        await decide(client, second, approval_id, "approve")

        _, _, *done = events_of(database, live.institution_id)[recorded:]
        both = {"approval_id": approval_id, "requested_by": live.user_id, "approved_by": second.user_id}
        assert [event["action"] for event in done] == ["user.role_changed", "session.ended"]
        assert [event["details"].items() >= both.items() for event in done] == [True, True]

    async def test_what_needs_nobody_else_names_no_request(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, live, role="viewer")

        assert events_of(database, live.institution_id)[-1]["details"] == {"role": "viewer"}

    async def test_is_not_for_the_one_who_asked(
        self, client: httpx.AsyncClient, live: Admin, second: Admin
    ) -> None:
        approval_id = await asked(client, live)

        response = await decide(client, live, approval_id, "approve")

        assert (response.status_code, problem_type(response)) == (403, "own-request")
        assert INVITATION["email"] not in await emails(client, live)

    async def test_happens_once_however_often_it_is_asked_for_at_the_same_time(
        self,
        client: httpx.AsyncClient,
        settings: UserSettings,
        live: Admin,
        second: Admin,
        database: sqlite3.Connection,
    ) -> None:
        third = await join(client, settings, "tom@quay.example", institution_id=live.institution_id)
        approval_id = await asked(client, live)

        answers = await asyncio.gather(
            *(decide(client, who, approval_id, "approve") for who in (second, third) * 3)
        )

        statuses = sorted(answer.status_code for answer in answers)
        assert statuses.count(200) == 1
        assert set(statuses) <= {200, 409, 503}  # 503: SQLite was busy with the first
        assert actions(database, live.institution_id).count("approval.given") == 1
        again = await decide(client, second, approval_id, "approve")
        assert problem_type(again) == "approval-closed"

    async def test_is_not_for_people_of_another_institution(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, admin: Admin
    ) -> None:
        approval_id = await asked(client, live)

        answers = [await decide(client, admin, approval_id, how) for how in ("approve", "refuse", "withdraw")]
        read = await client.get(f"/v1/approvals/{approval_id}", headers=admin.headers)
        listed = await client.get("/v1/approvals", headers=admin.headers)

        assert [answer.status_code for answer in [*answers, read]] == [404] * 4
        assert listed.json()["items"] == []

    async def test_stays_open_when_it_cannot_be_done(
        self, client: httpx.AsyncClient, live: Admin, second: Admin
    ) -> None:
        approval_id = await asked(client, live)
        invited_meanwhile = await invite(client, live, email=str(INVITATION["email"]), role="viewer")

        failed = await decide(client, second, approval_id, "approve")
        read = await client.get(f"/v1/approvals/{approval_id}", headers=second.headers)

        assert invited_meanwhile.status_code == 201
        assert problem_type(failed) == "email-taken"
        assert read.json()["state"] == "pending"

    async def test_does_not_count_once_the_asker_is_no_admin_any_more(
        self, client: httpx.AsyncClient, settings: UserSettings, live: Admin, second: Admin
    ) -> None:
        third = await join(client, settings, "tom@quay.example", institution_id=live.institution_id)
        approval_id = await asked(client, third)
        lowered = await client.patch(
            f"/v1/users/{third.user_id}", headers=live.headers, json={"role": "viewer"}
        )

        approved = await decide(client, second, approval_id, "approve")
        refused = await decide(client, second, approval_id, "refuse")

        assert lowered.status_code == 200
        assert problem_type(approved) == "asker-not-eligible"
        assert refused.status_code == 200

    async def test_is_not_for_those_who_are_no_admins_any_more(
        self, client: httpx.AsyncClient, settings: UserSettings, live: Admin, second: Admin
    ) -> None:
        third = await join(client, settings, "tom@quay.example", institution_id=live.institution_id)
        approval_id = await asked(client, live)
        await client.patch(f"/v1/users/{third.user_id}", headers=live.headers, json={"disabled": True})

        response = await decide(client, third, approval_id, "approve")

        assert response.status_code == 401  # being disabled ended the session
        assert INVITATION["email"] not in await emails(client, live)

    async def test_comes_too_late_after_72_hours(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)
        database.execute("UPDATE approvals SET expires_at_ms = expires_at_ms - ?", (LIFETIME_MS,))

        answers = [
            await decide(client, who, approval_id, how)
            for who, how in ((second, "approve"), (second, "refuse"), (live, "withdraw"))
        ]
        read = await client.get(f"/v1/approvals/{approval_id}", headers=second.headers)
        again = await invite(client, live)

        assert {problem_type(answer) for answer in answers} == {"approval-closed"}
        assert read.json()["state"] == "expired"
        assert again.status_code == 202


class TestTurningDown:
    async def test_a_refusal_closes_it_and_is_recorded(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)

        own = await decide(client, live, approval_id, "refuse")
        response = await decide(client, second, approval_id, "refuse")
        late = await decide(client, second, approval_id, "approve")

        assert problem_type(own) == "own-request"
        assert response.json()["state"] == "refused"
        assert problem_type(late) == "approval-closed"
        event = events_of(database, live.institution_id)[-1]
        assert (event["action"], event["details"]["withdrawn"]) == ("approval.refused", False)

    async def test_the_asker_withdraws_and_nobody_else_does(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)

        by_other = await decide(client, second, approval_id, "withdraw")
        response = await decide(client, live, approval_id, "withdraw")

        assert problem_type(by_other) == "not-eligible"
        assert response.json()["state"] == "withdrawn"
        event = events_of(database, live.institution_id)[-1]
        assert (event["action"], event["details"]["withdrawn"]) == ("approval.refused", True)


class TestChangingSomebody:
    @pytest.fixture
    async def viewer(self, client: httpx.AsyncClient, live: Admin) -> str:
        response = await invite(client, live, role="viewer")
        return str(response.json()["user_id"])

    async def test_making_somebody_an_admin_waits_for_a_second_one(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, viewer: str
    ) -> None:
        address = f"/v1/users/{viewer}"
        response = await client.patch(address, headers=live.headers, json={"role": "admin"})
        before = (await client.get(address, headers=live.headers)).json()["role"]

        approved = await decide(client, second, response.json()["approval_id"], "approve")

        assert response.status_code == 202
        assert response.json()["subject_id"] == viewer
        assert before == "viewer"
        assert approved.status_code == 200
        assert (await client.get(address, headers=live.headers)).json()["role"] == "admin"

    async def test_so_does_enabling_an_admin_again(
        self, client: httpx.AsyncClient, settings: UserSettings, live: Admin, second: Admin
    ) -> None:
        third = await join(client, settings, "tom@quay.example", institution_id=live.institution_id)
        address = f"/v1/users/{third.user_id}"
        disabled = await client.patch(address, headers=live.headers, json={"disabled": True})

        response = await client.patch(address, headers=live.headers, json={"disabled": False})
        approved = await decide(client, second, response.json()["approval_id"], "approve")

        assert disabled.status_code == 200
        assert response.status_code == 202
        assert approved.status_code == 200
        assert (await client.get(address, headers=live.headers)).json()["state"] == "active"

    @pytest.mark.parametrize(
        "change", [{"role": "builder"}, {"disabled": True}, {"role": "admin", "disabled": True}]
    )
    async def test_what_makes_nobody_an_admin_is_done_at_once(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, viewer: str, change: dict[str, Any]
    ) -> None:
        response = await client.patch(f"/v1/users/{viewer}", headers=live.headers, json=change)

        assert response.status_code == 200, response.text

    async def test_a_disabled_admin_to_be_is_enabled_only_by_two(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, viewer: str
    ) -> None:
        """Promoting somebody while disabled and enabling them afterwards is no way around."""
        address = f"/v1/users/{viewer}"
        await client.patch(address, headers=live.headers, json={"role": "admin", "disabled": True})

        response = await client.patch(address, headers=live.headers, json={"disabled": False})

        assert response.status_code == 202

    async def test_two_harmless_changes_at_once_make_no_admin(
        self, client: httpx.AsyncClient, settings: UserSettings, live: Admin, second: Admin, viewer: str
    ) -> None:
        """Of promoting and enabling somebody who is disabled, the later one waits for a second person."""
        address = f"/v1/users/{viewer}"
        for _ in range(6):
            lowered = {"role": "builder", "disabled": True}
            assert (await client.patch(address, headers=live.headers, json=lowered)).status_code == 200

            answers = await asyncio.gather(
                *(
                    client.patch(address, headers=who.headers, json=change)
                    for who, change in ((live, {"role": "admin"}), (second, {"disabled": False}))
                )
            )

            assert sorted(answer.status_code for answer in answers) == [200, 202]
            waiting = next(answer.json() for answer in answers if answer.status_code == 202)
            by = live if waiting["requested_by"] == live.user_id else second
            assert (await decide(client, by, waiting["approval_id"], "withdraw")).status_code == 200


class TestTheOnlyAdminOfASandbox:
    async def test_invites_another_in_one_call_and_the_record_says_so(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        response = await invite(client, admin)

        assert response.status_code == 201, response.text
        assert (response.json()["email"], response.json()["role"]) == (INVITATION["email"], "admin")
        asked, given, done = events_of(database, admin.institution_id)[-3:]
        assert [asked["action"], given["action"], done["action"]] == [
            "approval.asked",
            "approval.given",
            "user.invited",
        ]
        assert given["details"]["self_approved"] is True
        listed = (await client.get("/v1/approvals", headers=admin.headers)).json()["items"]
        assert [(item["state"], item["self_approved"]) for item in listed] == [("approved", True)]

    async def test_promotes_somebody_in_one_call(self, client: httpx.AsyncClient, admin: Admin) -> None:
        viewer = (await invite(client, admin, role="viewer")).json()["user_id"]

        response = await client.patch(f"/v1/users/{viewer}", headers=admin.headers, json={"role": "admin"})

        assert (response.status_code, response.json()["role"]) == (200, "admin")

    async def test_is_alone_until_the_other_has_joined(
        self, client: httpx.AsyncClient, settings: UserSettings, admin: Admin
    ) -> None:
        await invite(client, admin)
        still_alone = await invite(client, admin, email="third@harbour.example")
        await join(client, settings, "sam@harbour.example", institution_id=admin.institution_id)

        response = await invite(client, admin, email="fourth@harbour.example")

        assert still_alone.status_code == 201
        assert response.status_code == 202

    @pytest.mark.parametrize("change", [{"role": "viewer"}, {"disabled": True}])
    async def test_does_not_get_alone_by_sending_the_other_away(
        self,
        client: httpx.AsyncClient,
        settings: UserSettings,
        admin: Admin,
        database: sqlite3.Connection,
        change: dict[str, Any],
    ) -> None:
        other = await join(client, settings, "sam@harbour.example", institution_id=admin.institution_id)
        approval_id = await asked(client, admin)
        gone = await client.patch(f"/v1/users/{other.user_id}", headers=admin.headers, json=change)
        assert gone.status_code == 200

        answers = [
            await decide(client, admin, approval_id, "approve"),
            await invite(client, admin, email="third@harbour.example"),
        ]
        database.execute("UPDATE users SET led_until_ms = led_until_ms - ?", (LIFETIME_MS,))
        three_days_later = await invite(client, admin, email="third@harbour.example")

        assert [problem_type(answer) for answer in answers] == ["second-person-needed"] * 2
        assert "less than 72 hours ago" in answers[0].json()["detail"]
        assert three_days_later.status_code == 201


class TestTheOnlyAdminOfALiveInstitution:
    async def test_is_told_what_to_do_where_there_is_no_operator(
        self, client: httpx.AsyncClient, live: Admin
    ) -> None:
        response = await invite(client, live)

        assert (response.status_code, problem_type(response)) == (409, "second-person-needed")
        assert "python -m user_service.operators" in response.json()["detail"]

    async def test_has_an_operator_as_the_second_person(
        self, client: httpx.AsyncClient, live: Admin, operator: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)
        listed = await client.get("/v1/platform/approvals", headers=operator.headers)
        read = await client.get(f"/v1/approvals/{approval_id}", headers=operator.headers)

        approved = await decide(client, operator, approval_id, "approve")

        assert [item["approval_id"] for item in listed.json()["items"]] == [approval_id]
        assert listed.json()["items"][0]["may_approve"]
        assert read.json()["institution_id"] == live.institution_id
        assert approved.status_code == 200, approved.text
        assert INVITATION["email"] in await emails(client, live)
        given = events_of(database, live.institution_id)[-2]
        assert (given["action"], given["actor"]["id"]) == ("approval.given", operator.user_id)
        assert (await client.get("/v1/platform/approvals", headers=operator.headers)).json()["items"] == []

    async def test_may_be_refused_by_an_operator(
        self, client: httpx.AsyncClient, live: Admin, operator: Admin
    ) -> None:
        approval_id = await asked(client, live)

        assert (await decide(client, operator, approval_id, "refuse")).json()["state"] == "refused"

    async def test_an_operator_sees_nothing_of_it_once_there_are_two_admins(
        self, client: httpx.AsyncClient, settings: UserSettings, live: Admin, operator: Admin
    ) -> None:
        approval_id = await asked(client, live)
        await join(client, settings, "sam@quay.example", institution_id=live.institution_id)

        listed = await client.get("/v1/platform/approvals", headers=operator.headers)
        answers = [await decide(client, operator, approval_id, how) for how in ("approve", "refuse")]

        assert listed.json()["items"] == []
        assert [answer.status_code for answer in answers] == [404, 404]

    async def test_operators_have_no_say_in_a_sandbox(
        self, client: httpx.AsyncClient, settings: UserSettings, admin: Admin, operator: Admin
    ) -> None:
        other = await join(client, settings, "sam@harbour.example", institution_id=admin.institution_id)
        approval_id = await asked(client, admin)
        await client.patch(f"/v1/users/{other.user_id}", headers=admin.headers, json={"disabled": True})

        listed = await client.get("/v1/platform/approvals", headers=operator.headers)

        assert listed.json()["items"] == []
        assert (await decide(client, operator, approval_id, "approve")).status_code == 404


class TestListing:
    async def test_says_what_waits_for_whom(
        self, client: httpx.AsyncClient, live: Admin, second: Admin
    ) -> None:
        await asked(client, live)

        for who, expected in ((live, False), (second, True)):
            (item,) = (await client.get("/v1/approvals", headers=who.headers)).json()["items"]
            assert item["may_approve"] is expected

    async def test_pages_from_the_newest_to_the_oldest_and_filters_by_state(
        self, client: httpx.AsyncClient, live: Admin, second: Admin
    ) -> None:
        made = [await asked(client, live, email=f"n{number}@harbour.example") for number in range(3)]
        await decide(client, second, made[1], "refuse")
        first = await client.get("/v1/approvals", headers=live.headers, params={"limit": 2})
        rest = await client.get(
            "/v1/approvals",
            headers=live.headers,
            params={"limit": 2, "cursor": first.json()["next_cursor"]},
        )
        by_state = {
            state: (await client.get("/v1/approvals", headers=live.headers, params={"state": state})).json()[
                "items"
            ]
            for state in ("pending", "refused", "expired", "approved")
        }

        pages = [[item["approval_id"] for item in page.json()["items"]] for page in (first, rest)]
        assert pages == [[made[2], made[1]], [made[0]]]
        assert rest.json()["next_cursor"] is None
        assert {state: [item["approval_id"] for item in items] for state, items in by_state.items()} == {
            "pending": [made[2], made[0]],
            "refused": [made[1]],
            "expired": [],
            "approved": [],
        }

    async def test_is_not_for_those_who_do_not_run_the_institution(
        self, client: httpx.AsyncClient, settings: UserSettings, live: Admin, second: Admin
    ) -> None:
        approval_id = await asked(client, live)
        await client.patch(f"/v1/users/{second.user_id}", headers=live.headers, json={"role": "builder"})
        headers = await log_in_again(client, second)

        answers = [
            await client.get("/v1/approvals", headers=headers),
            await client.get(f"/v1/approvals/{approval_id}", headers=headers),
            await client.post(f"/v1/approvals/{approval_id}/approve", headers=headers),
        ]

        assert [answer.status_code for answer in answers] == [403] * 3


class TestOperators:
    async def test_one_alone_cannot_invite_another_over_the_api(
        self, client: httpx.AsyncClient, operator: Admin
    ) -> None:
        response = await invite(client, operator, role="operator")

        assert problem_type(response) == "second-person-needed"
        assert "python -m user_service.operators" in response.json()["detail"]

    async def test_two_invite_a_third(
        self, client: httpx.AsyncClient, operator: Admin, other_operator: Admin
    ) -> None:
        approval_id = await asked(client, operator, role="operator")

        assert (await decide(client, other_operator, approval_id, "approve")).status_code == 200
        assert INVITATION["email"] in await emails(client, operator)

    async def test_are_never_made_in_a_tenant_nor_admins_on_the_platform(
        self, client: httpx.AsyncClient, admin: Admin, operator: Admin
    ) -> None:
        answers = [
            await invite(client, admin, role="operator"),
            await invite(client, operator, role="admin"),
        ]

        assert {problem_type(answer) for answer in answers} == {"role-not-offered"}


class TestListingSigningKeys:
    async def test_shows_pages_from_the_newest_to_the_oldest(
        self, client: httpx.AsyncClient, operator: Admin, database: sqlite3.Connection
    ) -> None:
        now = epoch_ms()
        of_the_start = database.execute("SELECT kid FROM signing_keys").fetchone()[0]
        for generation in (2, 3):
            database.execute(
                "INSERT INTO signing_keys (kid, generation, encrypted_pem, created_at_ms, signs_from_ms)"
                " SELECT ?, ?, encrypted_pem, ?, ? FROM signing_keys LIMIT 1",
                (f"key_{generation}", generation, now, now),
            )

        pages = await all_pages(client, "/v1/signing-keys?limit=1", operator)

        shown = [[(key["kid"], key["state"]) for key in page] for page in pages]
        assert shown == [[("key_3", "signing")], [("key_2", "retiring")], [(of_the_start, "retiring")]]


class TestRotatingTheSigningKey:
    async def test_takes_two_operators(
        self,
        client: httpx.AsyncClient,
        operator: Admin,
        other_operator: Admin,
        database: sqlite3.Connection,
    ) -> None:
        before = (await client.get("/v1/signing-keys", headers=operator.headers)).json()["items"]
        asked = await client.post("/v1/signing-keys/rotations", headers=operator.headers)
        unchanged = (await client.get("/v1/signing-keys", headers=operator.headers)).json()["items"]

        approved = await decide(client, other_operator, asked.json()["approval_id"], "approve")

        after = (await client.get("/v1/signing-keys", headers=operator.headers)).json()["items"]
        assert asked.status_code == 202
        assert asked.json()["action"] == "signing_key.rotate"
        assert unchanged == before
        assert approved.status_code == 200, approved.text
        assert [key["state"] for key in before] == ["signing"]
        assert [key["state"] for key in after] == ["waiting", "signing"]
        assert after[1]["kid"] == before[0]["kid"]
        assert after[0]["retired_at"] is None
        assert after[1]["retired_at"] > after[0]["signs_from"] > after[0]["created_at"]
        event = events_of(database, "platform")[-1]
        assert (event["action"], event["subject"]["id"]) == ("signing_key.rotated", after[0]["kid"])
        assert event["actor"]["id"] == operator.user_id
        assert event["details"]["approval_id"] == asked.json()["approval_id"]
        assert event["details"]["approved_by"] == other_operator.user_id

    async def test_one_operator_alone_is_told_to_use_the_command(
        self, client: httpx.AsyncClient, operator: Admin
    ) -> None:
        response = await client.post("/v1/signing-keys/rotations", headers=operator.headers)

        assert (response.status_code, problem_type(response)) == (409, "second-person-needed")
        assert "python -m user_service.rotate_signing_key" in response.json()["detail"]

    async def test_is_not_asked_for_twice_nor_while_one_is_under_way(
        self, client: httpx.AsyncClient, operator: Admin, other_operator: Admin
    ) -> None:
        asked = await client.post("/v1/signing-keys/rotations", headers=operator.headers)
        twice = await client.post("/v1/signing-keys/rotations", headers=other_operator.headers)
        await decide(client, other_operator, asked.json()["approval_id"], "approve")

        under_way = await client.post("/v1/signing-keys/rotations", headers=operator.headers)

        assert problem_type(twice) == "approval-pending"
        assert problem_type(under_way) == "rotation-under-way"

    async def test_tenants_see_nothing_of_it(
        self, client: httpx.AsyncClient, operator: Admin, other_operator: Admin, admin: Admin
    ) -> None:
        asked = await client.post("/v1/signing-keys/rotations", headers=operator.headers)

        answer = await decide(client, admin, asked.json()["approval_id"], "approve")

        assert answer.status_code == 404

    async def test_no_key_is_shown_but_by_its_id(self, client: httpx.AsyncClient, operator: Admin) -> None:
        (key,) = (await client.get("/v1/signing-keys", headers=operator.headers)).json()["items"]

        assert set(key) == {"kid", "state", "created_at", "signs_from", "retired_at"}


class TestMails:
    async def test_those_who_may_decide_are_told_exactly_what_is_wanted(
        self,
        client: httpx.AsyncClient,
        settings: UserSettings,
        live: Admin,
        second: Admin,
        database: sqlite3.Connection,
    ) -> None:
        third = await join(client, settings, "tom@quay.example", institution_id=live.institution_id)
        approval_id = await asked(client, live)

        (notice,) = notices(database, "approval_waiting")
        read = (await client.get(f"/v1/approvals/{approval_id}", headers=live.headers)).json()
        until = datetime.fromisoformat(read["expires_at"]).strftime("%Y-%m-%d %H:%M UTC")
        assert sorted(notice["recipients"]) == sorted([second.email, third.email])
        assert notice["facts"] == {
            "institution_name": "Quay Bank",
            "institution_mode": "live",
            "wanted": "make somebody an admin",
            **INVITATION,
            "asked_by": "Ada Okafor (liv@quay.example)",
            "until": until,
            "approval_id": approval_id,
        }

    async def test_a_change_of_somebody_names_them(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        viewer = (await invite(client, live, role="viewer")).json()["user_id"]

        await client.patch(f"/v1/users/{viewer}", headers=live.headers, json={"role": "admin"})

        (notice,) = notices(database, "approval_waiting")
        assert notice["facts"]["person"] == "New Person (new@harbour.example)"
        assert (notice["facts"]["user_id"], notice["facts"]["role"]) == (viewer, "admin")

    @pytest.mark.parametrize(("how", "decision"), [("approve", "approved"), ("refuse", "refused")])
    async def test_the_asker_is_told_how_it_was_decided_and_by_whom(
        self,
        client: httpx.AsyncClient,
        live: Admin,
        second: Admin,
        database: sqlite3.Connection,
        how: str,
        decision: str,
    ) -> None:
        approval_id = await asked(client, live)

        await decide(client, second, approval_id, how)

        (notice,) = notices(database, "approval_decided")
        assert notice["recipients"] == [live.email]
        assert notice["facts"]["decision"] == decision
        assert notice["facts"]["decided_by"] == "Grace Adeyemi (sam@quay.example)"
        assert notice["facts"]["approval_id"] == approval_id

    async def test_operators_are_told_where_they_are_the_second_person_and_stay_unnamed(
        self,
        client: httpx.AsyncClient,
        live: Admin,
        operator: Admin,
        other_operator: Admin,
        database: sqlite3.Connection,
    ) -> None:
        approval_id = await asked(client, live)
        await decide(client, operator, approval_id, "approve")

        (waiting,), (decided,) = notices(database, "approval_waiting"), notices(database, "approval_decided")
        assert sorted(waiting["recipients"]) == sorted([operator.email, other_operator.email])
        assert decided["facts"]["decided_by"] == "An operator of the platform"
        assert "platform.example" not in str(decided)

    async def test_nobody_is_told_of_what_they_did_themselves(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        live: Admin,
        second: Admin,
        database: sqlite3.Connection,
    ) -> None:
        await invite(client, admin, email="alone@harbour.example")
        await decide(client, live, await asked(client, live), "withdraw")

        assert [notice["institution_id"] for notice in notices(database, "approval_waiting")] == [
            live.institution_id
        ]
        assert notices(database, "approval_decided") == []

    async def test_what_could_not_be_done_is_not_told_as_decided(
        self, client: httpx.AsyncClient, live: Admin, second: Admin, database: sqlite3.Connection
    ) -> None:
        approval_id = await asked(client, live)
        assert (await invite(client, second, role="viewer")).status_code == 201

        response = await decide(client, second, approval_id, "approve")

        assert problem_type(response) == "email-taken"
        assert notices(database, "approval_decided") == []
