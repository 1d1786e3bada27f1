"""Invitations reserve nothing, reveal nothing, and expire."""

import sqlite3

import httpx
import pytest

from common.clock import epoch_ms
from tests.api.user_service.conftest import Admin, log_in, problem_type, register
from tests.api.user_service.people import (
    accept,
    add_member,
    events,
    executed_statements,
    invite,
    me,
    newest_token,
    notices,
)
from user_service.account_work.service import BATCH, AccountTasks

DAY_MS = 86_400_000
GRACE = "grace@harbour.example"


@pytest.fixture
async def other(client: httpx.AsyncClient, admin: Admin) -> Admin:
    """An admin of another institution."""
    return await register(client, email="eve@elsewhere.example")


def seen(member: dict[str, object]) -> dict[str, object]:
    """Return what an admin sees of somebody, without what differs for each person."""
    return {name: value for name, value in member.items() if name not in {"user_id", "email", "created_at"}}


async def people(client: httpx.AsyncClient, admin: Admin) -> list[dict[str, object]]:
    listed = await client.get("/v1/users", headers=admin.headers)
    return [dict(item) for item in listed.json()["items"]]


def expire(database: sqlite3.Connection, user_id: str) -> None:
    database.execute("UPDATE mailed_tokens SET expires_at_ms = ? WHERE user_id = ?", (epoch_ms(), user_id))


class TestAnAddressThatIsKnownElsewhere:
    async def test_looks_to_the_inviter_like_any_other(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin
    ) -> None:
        await invite(client, other, email=GRACE)

        answers = [
            await invite(client, admin, email=email) for email in ("new@harbour.example", other.email, GRACE)
        ]

        listed = [seen(member) for member in await people(client, admin) if member["email"] != admin.email]
        unknown, *known = [seen(answer.json()) for answer in answers]
        assert [answer.status_code for answer in answers] == [201, 201, 201]
        assert known == [unknown] * 2
        assert listed == [unknown] * 3
        assert unknown["state"] == "invited"

    async def test_costs_the_same_statements(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin
    ) -> None:
        await people(client, admin)  # whoever comes first after a change reads the access feed
        with executed_statements() as of_unknown:
            await invite(client, admin, email="new@harbour.example")
        with executed_statements() as of_known:
            await invite(client, admin, email=other.email)

        assert of_known == of_unknown
        assert any("users.login_key =" in statement for statement in of_known)

    async def test_is_recorded_like_any_other(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin, email="new@harbour.example")
        await invite(client, admin, email=other.email)

        unknown, known = events(database, "user.invited")
        assert known["details"] == unknown["details"] == {"role": "analyst"}

    async def test_gets_a_mail_that_says_so_and_holds_no_token(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin, email="EVE@elsewhere.example")

        (notice,) = notices(database, "invited_elsewhere")
        assert notice["recipients"] == ["EVE@elsewhere.example"]
        assert notice["institution_id"] == admin.institution_id
        assert notice["facts"]["institution_name"] == "Harbour Payments"
        assert notice["facts"]["invited_by_name"] == "Ada Okafor"
        assert notice["token_id"] is None
        assert notices(database, "invitation") == []

    async def test_keeps_its_account(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin, email=other.email)

        login = await log_in(client, other)

        profile = await me(client, login.json()["access_token"])
        assert profile["institution"]["institution_id"] == other.institution_id

    async def test_is_no_reason_to_refuse_a_request_for_an_admin(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin
    ) -> None:
        response = await invite(client, admin, email=other.email, role="admin")

        assert response.status_code == 201
        assert response.json()["state"] == "invited"

    async def test_joins_where_its_invitation_is_accepted_first(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin, email=GRACE)
        first = newest_token(database, "invitation")
        await invite(client, other, email=GRACE)
        second = newest_token(database, "invitation")

        joined = await accept(client, second)
        too_late = await accept(client, first)

        profile = await me(client, joined.json()["access_token"])
        assert profile["institution"]["institution_id"] == other.institution_id
        assert (too_late.status_code, problem_type(too_late)) == (409, "email-taken")
        assert [member["state"] for member in await people(client, admin)] == ["active", "invited"]

    async def test_that_was_registered_meanwhile_is_not_taken_away_by_an_invitation(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin, email=GRACE)
        grace = await register(client, email=GRACE)

        response = await accept(client, newest_token(database, "invitation"))

        assert (response.status_code, problem_type(response)) == (409, "email-taken")
        assert (await log_in(client, grace)).status_code == 200

    async def test_that_is_invited_again_is_told_what_is_true_by_then(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin, email=GRACE)).json()["user_id"]
        await register(client, email=GRACE)

        again = await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers)

        assert again.status_code == 202
        assert len(notices(database, "invitation")) == len(notices(database, "invited_elsewhere")) == 1


class TestMails:
    async def test_of_all_institutions_to_one_address_are_twenty_a_day_and_none_is_told(
        self, client: httpx.AsyncClient, admin: Admin, other: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, other, email=GRACE)
        database.execute("UPDATE mail_counts SET mails = 19")

        answers = [await invite(client, admin, email=GRACE)]
        user_id = answers[0].json()["user_id"]
        again = await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers)
        mailed = len(notices(database, "invitation"))
        database.execute("UPDATE mail_counts SET first_at_ms = first_at_ms - ?", (DAY_MS,))
        a_day_later = await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers)

        assert (answers[0].status_code, again.status_code, a_day_later.status_code) == (201, 202, 202)
        assert mailed == 2
        assert len(notices(database, "invitation")) == 3


class TestExpiry:
    async def test_removes_whoever_did_not_join_in_time_and_records_it(
        self, client: httpx.AsyncClient, admin: Admin, tasks: AccountTasks, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]
        expire(database, user_id)

        await tasks.forget_old(now_ms=epoch_ms())

        gone = await client.get(f"/v1/users/{user_id}", headers=admin.headers)
        (event,) = events(database, "user.invitation_expired")
        assert gone.status_code == 404
        assert [member["email"] for member in await people(client, admin)] == [admin.email]
        assert (event["actor"]["kind"], event["subject"]["id"], event["details"]) == ("system", user_id, {})

    async def test_removes_those_who_are_disabled_too(
        self, client: httpx.AsyncClient, admin: Admin, tasks: AccountTasks, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]
        await client.patch(f"/v1/users/{user_id}", headers=admin.headers, json={"disabled": True})
        expire(database, user_id)

        await tasks.forget_old(now_ms=epoch_ms())

        assert [member["email"] for member in await people(client, admin)] == [admin.email]

    async def test_leaves_those_who_still_may_join_and_those_who_have(
        self, client: httpx.AsyncClient, admin: Admin, tasks: AccountTasks, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        expire(database, member.user_id)
        await invite(client, admin, email="new@harbour.example")
        again = (await invite(client, admin, email="again@harbour.example")).json()["user_id"]
        expire(database, again)
        await client.post(f"/v1/users/{again}/invitation", headers=admin.headers)

        await tasks.forget_old(now_ms=epoch_ms())

        assert len(await people(client, admin)) == 4
        assert (await accept(client, newest_token(database, "invitation"))).status_code == 200

    async def test_lets_the_address_be_invited_anew(
        self, client: httpx.AsyncClient, admin: Admin, tasks: AccountTasks, database: sqlite3.Connection
    ) -> None:
        expire(database, (await invite(client, admin)).json()["user_id"])
        await tasks.forget_old(now_ms=epoch_ms())

        response = await invite(client, admin)

        assert response.status_code == 201
        assert (await accept(client, newest_token(database, "invitation"))).status_code == 200

    async def test_goes_on_until_all_are_removed(
        self, client: httpx.AsyncClient, admin: Admin, tasks: AccountTasks, database: sqlite3.Connection
    ) -> None:
        database.executemany(
            "INSERT INTO users (user_id, institution_id, email, email_key, login_key, full_name, role,"
            " password_hash, created_at_ms) VALUES (?1, ?2, ?1, ?1, ?1, 'Many', 'viewer', '', 1)",
            [(f"usr_{number}", admin.institution_id) for number in range(BATCH + 1)],
        )

        await tasks.forget_old(now_ms=epoch_ms())

        assert database.execute("SELECT count(*) FROM users").fetchone() == (1,)
        assert len(events(database, "user.invitation_expired")) == BATCH + 1
