import asyncio
import sqlite3
from collections import Counter
from typing import Any

import httpx
import pytest
from jose import jwt

from common.contracts.roles import Role
from common.db import Database
from common.four_eyes import SecondPersonNeededError
from tests.api.user_service.conftest import (
    PASSWORD,
    Admin,
    log_in,
    problem_type,
    refresh,
    register,
)
from tests.api.user_service.people import (
    accept,
    add_member,
    all_pages,
    change,
    events,
    invite,
    me,
    newest_token,
    notices,
    session_ids,
    told_sessions,
    with_tokens,
)
from user_service.auth.passwords import Passwords
from user_service.events.recording import Actor
from user_service.members.schemas import MemberChange
from user_service.members.service import By, Members
from user_service.settings import UserSettings


class TestInvite:
    async def test_adds_somebody_who_has_yet_to_join(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await invite(client, admin, email="Grace@Harbour.example", role="builder")

        body = response.json()
        assert response.status_code == 201
        assert body.pop("user_id").startswith("usr_")
        assert body.pop("created_at").endswith("Z")
        assert body == {
            "email": "Grace@harbour.example",
            "full_name": "Grace Adeyemi",
            "role": "builder",
            "state": "invited",
            "second_factor": False,
            "invited_by": admin.user_id,
            "last_login_at": None,
        }

    async def test_takes_no_name_that_leads_elsewhere(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        response = await invite(client, admin, full_name="Log in at evil.example")

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"
        assert "a name holds no address of the web or of mail" in response.json()["errors"][0]["message"]
        assert notices(database, "invitation") == []

    async def test_goes_on_where_names_were_chosen_before_they_were_checked(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE institutions SET name = 'evil.example'")
        database.execute("UPDATE users SET full_name = 'evil.example'")

        invited = await invite(client, admin)
        me = await client.get("/v1/users/me", headers=admin.headers)

        assert invited.status_code == 201
        assert (me.json()["full_name"], me.json()["institution"]["name"]) == ("evil.example", "evil.example")
        assert len(notices(database, "invitation")) == 1

    async def test_asks_for_a_mail_to_them_with_a_token_of_seven_days(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]

        (notice,) = notices(database, "invitation")
        (token,) = database.execute(
            "SELECT user_id, purpose, expires_at_ms - created_at_ms FROM mailed_tokens"
        ).fetchall()
        assert notice["recipients"] == ["grace@harbour.example"]
        assert notice["facts"] == {
            "institution_name": "Harbour Payments",
            "institution_mode": "sandbox",
            "role": "analyst",
            "invited_by_name": "Ada Okafor",
        }
        assert notice["secret"] is None
        assert token == (user_id, "invitation", 7 * 86_400_000)
        assert database.execute("SELECT count(*) FROM outbox WHERE target = 'notices'").fetchone() == (1,)

    async def test_is_recorded_without_address_and_name(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]

        (event,) = events(database, "user.invited")
        assert event["actor"] == {"kind": "user", "id": admin.user_id}
        assert event["subject"] == {"kind": "user", "id": user_id}
        assert event["details"] == {"role": "analyst"}
        assert "grace" not in str(event).lower()

    async def test_lets_nobody_in_before_they_have_joined(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        await invite(client, admin)

        response = await client.post(
            "/v1/auth/login", json={"email": "grace@harbour.example", "password": PASSWORD}
        )

        assert response.status_code == 401
        assert problem_type(response) == "invalid-credentials"

    @pytest.mark.parametrize("role", ["analyst", "admin"])
    @pytest.mark.parametrize("email", ["ada@harbour.example", "ADA@harbour.example", "Grace@harbour.example"])
    async def test_refuses_an_address_of_somebody_of_the_institution(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, email: str, role: str
    ) -> None:
        await invite(client, admin, email="grace@harbour.example")

        response = await invite(client, admin, email=email, role=role)

        assert response.status_code == 409
        assert problem_type(response) == "email-taken"
        assert len(notices(database, "invitation")) == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"role": "owner"},
            {"role": "Admin"},
            {"role": None},
            {"email": "Grace <grace@harbour.example>"},
            {"full_name": " "},
            {"password": PASSWORD},
            {"institution_id": "ins_other"},
            {"state": "active"},
            {"user_id": "usr_mine"},
        ],
    )
    async def test_refuses_what_an_invitation_does_not_say(
        self, client: httpx.AsyncClient, admin: Admin, changes: dict[str, Any]
    ) -> None:
        response = await invite(client, admin, **changes)

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"

    @pytest.mark.parametrize("role", ["builder", "analyst", "viewer"])
    async def test_is_for_admins_alone(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, role: str
    ) -> None:
        member = await add_member(client, admin, database, role=role)

        response = await invite(client, member, email="eve@harbour.example")

        assert response.status_code == 403
        assert problem_type(response) == "forbidden"

    async def test_never_makes_an_operator_outside_the_platform(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        response = await invite(client, admin, role="operator")

        assert response.status_code == 409
        assert problem_type(response) == "role-not-offered"


class TestAccept:
    async def test_logs_the_new_member_in(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]

        response = await accept(client, newest_token(database, "invitation"))

        profile = await me(client, response.json()["access_token"])
        assert response.status_code == 200
        assert profile["user_id"] == user_id
        assert profile["role"] == "analyst"
        assert profile["full_name"] == "Grace Adeyemi"
        assert profile["institution"]["institution_id"] == admin.institution_id
        assert [event["actor"]["id"] for event in events(database, "user.joined")] == [user_id]

    async def test_makes_the_password_work_and_the_member_active(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        shown = await client.get(f"/v1/users/{member.user_id}", headers=admin.headers)

        assert shown.json()["state"] == "active"
        assert shown.json()["last_login_at"].endswith("Z")
        assert (await log_in(client, member)).status_code == 200

    async def test_takes_the_name_that_they_give(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)

        response = await accept(client, newest_token(database, "invitation"), full_name="Grace A. Adeyemi")

        assert (await me(client, response.json()["access_token"]))["full_name"] == "Grace A. Adeyemi"

    async def test_works_once(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        token = newest_token(database, "invitation")
        await accept(client, token)

        again = await accept(client, token, password="another-quay-under-moons")

        assert again.status_code == 401
        assert problem_type(again) == "invalid-mailed-token"

    async def test_by_twenty_at_once_lets_one_of_them_in(
        self, roomy: httpx.AsyncClient, admin_of_roomy: Admin, database_of_roomy: sqlite3.Connection
    ) -> None:
        await invite(roomy, admin_of_roomy)
        token = newest_token(database_of_roomy, "invitation")

        answers = await asyncio.gather(
            *(accept(roomy, token, password=f"a-quay-under-{number}-moons") for number in range(20))
        )

        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
        assert len(events(database_of_roomy, "user.joined")) == 1

    @pytest.mark.parametrize(
        ("body", "status", "role"),
        [({"role": "viewer"}, 200, "viewer"), ({"disabled": True}, 401, "")],
    )
    async def test_gives_the_rights_of_the_moment_they_join(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
        body: dict[str, Any],
        status: int,
        role: str,
    ) -> None:
        """An admin changes them while their password is hashed: no session existed that could have been ended."""
        user_id = (await invite(client, admin, role="builder")).json()["user_id"]
        hash_it = Passwords.hash

        async def changed_meanwhile(passwords: Passwords, password: str) -> str:
            assert (await change(client, admin, user_id, **body)).status_code == 200
            return await hash_it(passwords, password)

        monkeypatch.setattr(Passwords, "hash", changed_meanwhile)
        response = await accept(client, newest_token(database, "invitation"))

        assert response.status_code == status
        if status == 200:
            claims = jwt.get_unverified_claims(response.json()["access_token"])
            assert claims["role"] == role
            assert "score:write" not in claims["scope"]
        else:
            assert session_ids(database, user_id) == set()

    async def test_of_an_expired_invitation_is_refused(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        database.execute("UPDATE mailed_tokens SET expires_at_ms = 1")

        response = await accept(client, newest_token(database, "invitation"))

        assert problem_type(response) == "invalid-mailed-token"

    async def test_of_a_disabled_member_is_refused_until_they_are_enabled(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]
        await change(client, admin, user_id, disabled=True)

        refused = await accept(client, newest_token(database, "invitation"))
        await change(client, admin, user_id, disabled=False)
        taken = await accept(client, newest_token(database, "invitation"))

        assert problem_type(refused) == "invalid-mailed-token"
        assert taken.status_code == 200

    async def test_with_a_weak_password_leaves_the_token_as_it_is(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        token = newest_token(database, "invitation")

        weak = await accept(client, token, password="grace@harbour.example")

        assert weak.status_code == 422
        assert problem_type(weak) == "weak-password"
        assert (await accept(client, token)).status_code == 200

    @pytest.mark.parametrize(
        "token", ["x", "mtk_1.", ".", "mtk_1." + "0" * 64, "\ud800", "é" * 200, "x" * 256]
    )
    async def test_of_what_was_never_mailed_is_refused(self, client: httpx.AsyncClient, token: str) -> None:
        encoded = b'{"password":"%s","token":"%s"}' % (
            PASSWORD.encode(),
            token.encode("ascii", "backslashreplace").replace(b"\\xe9", b"\\u00e9"),
        )

        response = await client.post(
            "/v1/auth/invitations/accept", content=encoded, headers={"Content-Type": "application/json"}
        )

        assert response.status_code == 401
        assert problem_type(response) == "invalid-mailed-token"

    @pytest.mark.parametrize(
        "changes",
        [
            {"password": "elevenchars"},
            {"password": "x" * 129},
            {"password": "tide-and-\x00lantern"},
            {"full_name": ""},
            {"full_name": None, "role": "admin"},
            {"email": "other@harbour.example"},
            {"token": "x" * 257},
        ],
    )
    async def test_refuses_values_of_odd_form_and_leaves_the_token_as_it_is(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        changes: dict[str, Any],
    ) -> None:
        await invite(client, admin)
        token = newest_token(database, "invitation")
        body = {"token": token, "password": PASSWORD, **changes}

        refused = await client.post("/v1/auth/invitations/accept", json=body)

        assert refused.status_code == 422
        assert problem_type(refused) == "invalid-request"
        assert (await accept(client, token)).status_code == 200

    async def test_with_another_character_in_the_token_is_refused(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        token = newest_token(database, "invitation")

        for place in (4, 20, len(token) - 1):
            other = "1" if token[place] != "1" else "2"
            response = await accept(client, token[:place] + other + token[place + 1 :])
            assert response.status_code == 401

    async def test_stores_the_token_nowhere(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)

        text = newest_token(database, "invitation")

        assert text.split(".")[1] not in "\n".join(database.iterdump())


class TestInviteAgain:
    async def test_makes_the_older_token_worthless(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]
        older = newest_token(database, "invitation")

        response = await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers)

        newer = newest_token(database, "invitation")
        assert response.status_code == 202
        assert response.json() == {"expires_in": 7 * 24 * 3600}
        assert newer != older
        assert (await accept(client, older)).status_code == 401
        assert (await accept(client, newer)).status_code == 200
        assert [event["details"].get("again") for event in events(database, "user.invited")] == [None, True]

    async def test_is_refused_for_somebody_who_has_joined(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        response = await client.post(f"/v1/users/{member.user_id}/invitation", headers=admin.headers)

        assert response.status_code == 409
        assert problem_type(response) == "already-joined"

    async def test_is_refused_for_somebody_who_is_disabled(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]
        await change(client, admin, user_id, disabled=True)

        response = await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers)

        assert response.status_code == 409
        assert problem_type(response) == "user-disabled"

    async def test_is_refused_after_three_mails_within_an_hour(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]

        answers = [
            await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers) for _ in range(3)
        ]
        unused = database.execute("SELECT count(*) FROM mailed_tokens WHERE used_at_ms IS NULL").fetchone()
        to_another = await invite(client, admin, email="eve@harbour.example")
        database.execute(
            "UPDATE mailed_tokens SET created_at_ms = created_at_ms - 3600000 WHERE user_id = ?", (user_id,)
        )
        an_hour_later = await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers)

        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert problem_type(answers[-1]) == "too-many-invitations"
        assert 3500 < int(answers[-1].headers["retry-after"]) <= 3600
        assert unused == (1,)
        assert to_another.status_code == 201
        assert an_hour_later.status_code == 202

    async def test_is_refused_after_five_mails_within_a_day_so_that_others_may_invite_the_address_too(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")
        user_id = (await invite(client, admin)).json()["user_id"]
        answers = []
        for _ in range(5):
            database.execute("UPDATE mailed_tokens SET created_at_ms = created_at_ms - 3600000")
            answers.append(await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers))
        elsewhere = await invite(client, other)
        mailed = len(notices(database, "invitation"))
        database.execute(
            "UPDATE mailed_tokens SET created_at_ms = created_at_ms - 68400000 WHERE user_id = ?", (user_id,)
        )
        a_day_later = await client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers)

        assert [answer.status_code for answer in answers] == [202] * 4 + [429]
        assert problem_type(answers[-1]) == "too-many-invitations"
        assert 68_300 < int(answers[-1].headers["retry-after"]) <= 68_400  # nineteen hours
        assert (elsewhere.status_code, mailed) == (201, 6)
        assert a_day_later.status_code == 202

    async def test_counts_those_who_do_it_at_once(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]

        answers = await asyncio.gather(
            *(client.post(f"/v1/users/{user_id}/invitation", headers=admin.headers) for _ in range(6))
        )

        assert Counter(answer.status_code for answer in answers) == {202: 2, 429: 4}
        assert len(notices(database, "invitation")) == 3


class TestManyInvitations:
    async def test_of_one_institution_are_refused_after_a_hundred_within_a_day(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")
        await invite(client, admin)
        database.executemany(
            "INSERT INTO mailed_tokens (token_id, user_id, purpose, created_at_ms, expires_at_ms)"
            " SELECT ?, user_id, purpose, created_at_ms, expires_at_ms FROM mailed_tokens LIMIT 1",
            [(f"mtk_{n}",) for n in range(99)],
        )

        refused = await invite(client, admin, email="one@harbour.example")
        elsewhere = await invite(client, other, email="two@elsewhere.example")
        people = (await client.get("/v1/users", headers=admin.headers)).json()["items"]
        database.execute("UPDATE mailed_tokens SET created_at_ms = created_at_ms - 86400000")
        a_day_later = await invite(client, admin, email="one@harbour.example")

        assert (refused.status_code, problem_type(refused)) == (429, "too-many-invitations")
        assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
        assert len(people) == 2
        assert elsewhere.status_code == 201
        assert a_day_later.status_code == 201


class TestRead:
    async def test_shows_pages_in_the_order_people_came(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        await register(client, email="eve@elsewhere.example")
        for number in range(4):
            await invite(client, admin, email=f"member{number}@harbour.example")

        pages = await all_pages(client, "/v1/users?limit=2", admin)

        shown = [[item["email"].split("@")[0] for item in page] for page in pages]
        assert shown == [["ada", "member0"], ["member1", "member2"], ["member3"]]

    async def test_never_shows_what_is_secret(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        (stored,) = database.execute("SELECT password_hash FROM users").fetchone()

        response = await client.get("/v1/users", headers=admin.headers)

        assert stored not in response.text
        assert {"password_hash", "totp_secret"} & set(response.json()["items"][0]) == set()

    @pytest.mark.parametrize("query", ["page=1", "limit=0", "limit=201", "cursor=zzz", "order=x"])
    async def test_refuses_odd_pages(self, client: httpx.AsyncClient, admin: Admin, query: str) -> None:
        response = await client.get(f"/v1/users?{query}", headers=admin.headers)

        assert response.status_code == 422

    async def test_is_for_admins_alone(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        listed = await client.get("/v1/users", headers=member.headers)
        read = await client.get(f"/v1/users/{admin.user_id}", headers=member.headers)

        assert (listed.status_code, read.status_code) == (403, 403)


class TestAnotherInstitution:
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "", None),
            ("PATCH", "", {"role": "viewer"}),
            ("PATCH", "", {"disabled": True}),
            ("POST", "/invitation", None),
            ("DELETE", "/second-factor", None),
            ("DELETE", "/sessions", None),
        ],
    )
    async def test_has_no_such_user(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        method: str,
        path: str,
        body: object,
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")
        before = database.execute("SELECT * FROM users").fetchall()

        theirs = await client.request(
            method, f"/v1/users/{admin.user_id}{path}", headers=other.headers, json=body
        )
        nobodys = await client.request(
            method, f"/v1/users/usr_nobody{path}", headers=other.headers, json=body
        )

        assert (theirs.status_code, nobodys.status_code) == (404, 404)
        assert {**theirs.json(), "request_id": ""} == {**nobodys.json(), "request_id": ""}
        assert database.execute("SELECT * FROM users").fetchall() == before
        assert (await refresh(client, admin.refresh_token)).status_code == 200


class TestChangeRole:
    async def test_ends_all_sessions_everywhere(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        await log_in(client, member)
        open_before = session_ids(database, member.user_id)

        response = await change(client, admin, member.user_id, role="viewer")

        assert response.status_code == 200
        assert response.json()["role"] == "viewer"
        assert len(open_before) == 2
        assert session_ids(database, member.user_id) == set()
        assert told_sessions(database) == open_before
        assert (await refresh(client, member.refresh_token)).status_code == 401

    async def test_is_what_the_next_login_gets(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        await change(client, admin, member.user_id, role="admin")

        raised = with_tokens(member, await log_in(client, member))
        assert (await invite(client, raised, email="eve@harbour.example")).status_code == 201

    async def test_is_recorded_with_what_it_was_before(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        await change(client, admin, member.user_id, role="viewer")

        (changed,) = events(database, "user.role_changed")
        (ended,) = events(database, "session.ended")
        assert changed["actor"] == {"kind": "user", "id": admin.user_id}
        assert changed["subject"] == {"kind": "user", "id": member.user_id}
        assert changed["details"] == {"role": "viewer", "role_before": "analyst"}
        assert ended["details"] == {"user_id": member.user_id, "reason": "role_changed"}

    async def test_to_the_same_role_changes_nothing(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        recorded = len(events(database))

        response = await change(client, admin, member.user_id, role="analyst", disabled=False)

        assert response.status_code == 200
        assert len(events(database)) == recorded
        assert (await refresh(client, member.refresh_token)).status_code == 200

    async def test_never_makes_an_operator(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        response = await change(client, admin, member.user_id, role="operator", disabled=True)

        assert problem_type(response) == "role-not-offered"
        assert (await log_in(client, member)).status_code == 200

    async def test_leaves_other_users_alone(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        await change(client, admin, member.user_id, role="viewer")

        assert (await refresh(client, admin.refresh_token)).status_code == 200


class TestDisable:
    async def test_ends_all_sessions_and_lets_nobody_in(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        open_before = session_ids(database, member.user_id)

        response = await change(client, admin, member.user_id, disabled=True)

        login = await log_in(client, member)
        assert response.json()["state"] == "disabled"
        assert told_sessions(database) == open_before
        assert problem_type(login) == "invalid-credentials"
        assert problem_type(await refresh(client, member.refresh_token)) == "invalid-refresh-token"
        assert [event["actor"]["id"] for event in events(database, "user.disabled")] == [admin.user_id]

    async def test_can_be_undone_but_brings_no_session_back(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        await change(client, admin, member.user_id, disabled=True)

        response = await change(client, admin, member.user_id, disabled=False)

        assert response.json()["state"] == "active"
        assert (await refresh(client, member.refresh_token)).status_code == 401
        assert (await log_in(client, member)).status_code == 200
        assert len(events(database, "user.enabled")) == 1

    async def test_takes_the_rights_of_an_admin_before_their_token_expires(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await add_member(client, admin, database, role="admin")
        await change(client, admin, other.user_id, disabled=True)

        response = await invite(client, other, email="eve@harbour.example")

        assert response.status_code == 401

    async def test_lowering_does_too(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await add_member(client, admin, database, role="admin")
        await change(client, admin, other.user_id, role="viewer")

        response = await change(client, other, admin.user_id, disabled=True)

        assert response.status_code == 401
        assert (await log_in(client, admin)).status_code == 200


class TestOwnAccount:
    @pytest.mark.parametrize("body", [{"role": "viewer"}, {"disabled": True}, {"role": "admin"}])
    async def test_is_not_changed_that_way(
        self, client: httpx.AsyncClient, admin: Admin, body: dict[str, Any]
    ) -> None:
        response = await change(client, admin, admin.user_id, **body)

        assert response.status_code == 409
        assert problem_type(response) == "own-account"
        assert (await refresh(client, admin.refresh_token)).status_code == 200

    @pytest.mark.parametrize("path", ["second-factor", "sessions"])
    async def test_is_not_unprotected_or_logged_out_that_way(
        self, client: httpx.AsyncClient, admin: Admin, path: str
    ) -> None:
        response = await client.delete(f"/v1/users/{admin.user_id}/{path}", headers=admin.headers)

        assert problem_type(response) == "own-account"


class TestLastAdmin:
    @pytest.mark.parametrize("body", [{"role": "viewer"}, {"disabled": True}])
    async def test_who_can_log_in_is_kept(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        body: dict[str, Any],
    ) -> None:
        other = await add_member(client, admin, database, role="admin")
        database.execute("UPDATE users SET password_hash = '' WHERE user_id = ?", (admin.user_id,))

        response = await change(client, admin, other.user_id, **body)

        assert response.status_code == 409
        assert problem_type(response) == "last-admin"
        assert (await refresh(client, other.refresh_token)).status_code == 200

    async def test_is_left_when_two_disable_each_other_at_once(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await add_member(client, admin, database, role="admin")

        answers = await asyncio.gather(
            change(client, admin, other.user_id, disabled=True),
            change(client, other, admin.user_id, disabled=True),
        )

        assert sorted(answer.status_code for answer in answers) == [200, 401]
        able = database.execute("SELECT count(*) FROM users WHERE disabled_at_ms IS NULL").fetchone()
        assert able == (1,)

    async def test_may_go_when_there_is_another(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await add_member(client, admin, database, role="admin")

        response = await change(client, other, admin.user_id, role="viewer")

        assert response.status_code == 200


class TestMakingALeader:
    async def test_is_refused_by_members_themselves_unless_it_was_approved(
        self, client: httpx.AsyncClient, admin: Admin, settings: UserSettings
    ) -> None:
        user_id = (await invite(client, admin)).json()["user_id"]
        who, promoting = By(admin.institution_id, Actor("user", admin.user_id)), MemberChange(role=Role.ADMIN)
        opened = Database(settings.database_url)

        async with opened.sessions.begin() as session:
            with pytest.raises(SecondPersonNeededError):
                await Members().change(session, who, user_id, promoting, now_ms=1)
            made = await Members().change(session, who, user_id, promoting, now_ms=1, approved=True)
        await opened.engine.dispose()

        assert made.role is Role.ADMIN


class TestChange:
    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"role": None},
            {"disabled": None},
            {"disabled": "yes"},
            {"role": "root"},
            {"email": "other@harbour.example"},
            {"password": PASSWORD},
            {"institution_id": "ins_other"},
            {"role": "viewer", "password_hash": "x"},
        ],
    )
    async def test_refuses_what_admins_do_not_change(
        self, client: httpx.AsyncClient, admin: Admin, body: dict[str, Any]
    ) -> None:
        invited = (await invite(client, admin)).json()

        response = await client.patch(f"/v1/users/{invited['user_id']}", headers=admin.headers, json=body)

        assert response.status_code == 422
        assert (await client.get(f"/v1/users/{invited['user_id']}", headers=admin.headers)).json() == invited

    async def test_says_what_is_wrong_in_our_words_alone(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        response = await client.patch("/v1/users/usr_nobody", headers=admin.headers, json={})

        assert response.json()["errors"] == [{"field": "body", "message": "there is nothing to change"}]
