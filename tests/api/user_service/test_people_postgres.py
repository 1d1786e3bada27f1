"""What may happen at the same time, over PostgreSQL, where transactions really overlap, with two services on it."""

import asyncio
import json
from collections import Counter

import httpx
import psycopg
from pydantic import SecretStr

from common.clock import epoch_ms
from common.db import Database
from common.ids import new_id
from tests.api.user_service.appointed import join, register_live
from tests.api.user_service.conftest import (
    AI_SECRET,
    PASSWORD,
    Admin,
    bearer,
    log_in,
    make_key,
    refresh,
    register,
    registration,
    service_token,
)
from tests.api.user_service.over_postgres import Both, change_rows, rows
from tests.api.user_service.people import NEW_PASSWORD, accept, at, change, code_of, invite, keys
from tests.waiting import eventually
from user_service.account_work.service import AccountTasks
from user_service.attempts.service import forget_old
from user_service.auth.passwords import OWASP_ARGON2ID
from user_service.mailed_tokens.texts import token_text
from user_service.settings import UserSettings
from user_service.times import DAY_MS


async def invited_token(client: httpx.AsyncClient, admin: Admin, url: str, *, role: str = "analyst") -> str:
    await invite(client, admin, role=role)
    ((token_id,),) = rows(url, "SELECT token_id FROM notices WHERE token_id IS NOT NULL")
    return token_text(keys().mailed_tokens, token_id)


async def recovery_codes(client: httpx.AsyncClient, admin: Admin) -> list[str]:
    """Turn a second factor on; return its recovery codes."""
    begun = await client.post(
        "/v1/users/me/second-factor",
        headers=admin.headers,
        json={"current_password": "tide-and-lantern-42"},
    )
    confirmed = await client.post(
        "/v1/users/me/second-factor/confirm",
        headers=admin.headers,
        json={"code": code_of(begun.json()["secret"], steps_ahead=-1)},
    )
    codes: list[str] = confirmed.json()["recovery_codes"]
    return codes


class TestAtOnce:
    async def test_twenty_refreshes_give_one_child(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])

        answers = await asyncio.gather(*(refresh(both[n % 2], admin.refresh_token) for n in range(20)))

        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 19}
        assert rows(postgres_url, "SELECT count(*) FROM refresh_tokens") == [(2,)]
        assert rows(postgres_url, "SELECT count(*) FROM sessions WHERE ended_at_ms IS NULL") == [(0,)]
        ended = "SELECT count(*) FROM identity_events WHERE action = 'session.ended_by_reuse'"
        assert rows(postgres_url, ended) == [(1,)]

    async def test_twenty_acceptances_let_one_in(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])
        token = await invited_token(both[0], admin, postgres_url)

        answers = await asyncio.gather(
            *(accept(both[n % 2], token, password=f"a-quay-under-{n}-moons") for n in range(20))
        )

        assert Counter(answer.status_code == 200 for answer in answers) == {True: 1, False: 19}

    async def test_forty_guesses_tell_six_answers(self, both: Both) -> None:
        admin = await register(both[0])

        answers = await asyncio.gather(
            *(log_in(both[n % 2], admin, password="not-the-password-1") for n in range(40))
        )

        assert Counter(answer.status_code for answer in answers) == {401: 6, 429: 34}

    async def test_forty_guesses_lock_once(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])
        await log_in(both[0], admin, password="not-the-password-1")
        change_rows(postgres_url, "UPDATE attempts SET failures = 8")

        answers = await asyncio.gather(
            *(log_in(both[n % 2], admin, password="not-the-password-1") for n in range(40))
        )

        async def told() -> bool:
            return rows(postgres_url, "SELECT count(*) FROM account_tasks") == [(0,)]

        await eventually(told)
        locked = "SELECT count(*) FROM identity_events WHERE action = 'account.locked'"
        assert Counter(answer.status_code for answer in answers) == {401: 2, 429: 38}
        assert rows(postgres_url, locked) == [(1,)]

    async def test_guesses_logins_and_proofs_never_wait_for_each_other_in_a_circle(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])
        other = await register(both[0], email="eve@elsewhere.example")
        wrong = {"password": NEW_PASSWORD, "current_password": "not-the-password-1"}

        async with at(both[0], "203.0.113.9") as stranger, at(both[1], "203.0.113.10") as another:
            answers = await asyncio.gather(
                *(
                    each
                    for n in range(5)
                    for each in (
                        log_in(both[n % 2], admin, password="not-the-password-1"),
                        log_in(both[n % 2], admin),
                        log_in(both[n % 2], other, password="not-the-password-1"),
                        log_in((stranger, another)[n % 2], admin, password="not-the-password-1"),
                        log_in((stranger, another)[n % 2], other),
                        both[n % 2].patch("/v1/users/me", headers=admin.headers, json=wrong),
                        both[n % 2].patch("/v1/users/me", headers=other.headers, json=wrong),
                    )
                )
            )

        assert [answer.text for answer in answers if answer.status_code >= 500] == []
        assert rows(postgres_url, "SELECT count(*) FROM attempts WHERE failures > 0") != [(0,)]

    async def test_wrong_codes_of_an_hour_ago_count_and_lock_once(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])
        await recovery_codes(both[0], admin)
        body = {"email": admin.email, "password": "tide-and-lantern-42", "code": "000000x"}
        await both[0].post("/v1/auth/login", json=body)
        hour_ago = "UPDATE attempts SET failures = 8, first_at_ms = first_at_ms - 3600000"
        change_rows(postgres_url, hour_ago + ", on_account_since_ms = on_account_since_ms - 3600000")
        database = Database(postgres_url)
        async with database.sessions.begin() as session:
            await forget_old(session, now_ms=epoch_ms())
        await database.engine.dispose()

        answers = await asyncio.gather(*(both[n % 2].post("/v1/auth/login", json=body) for n in range(8)))

        async def told() -> bool:
            return rows(postgres_url, "SELECT count(*) FROM account_tasks") == [(0,)]

        await eventually(told)
        locked = "SELECT count(*) FROM identity_events WHERE action = 'account.locked'"
        assert Counter(answer.status_code for answer in answers) == {401: 2, 429: 6}
        assert rows(postgres_url, locked) == [(1,)]

    async def test_eight_logins_with_one_code_start_one_session(self, both: Both) -> None:
        admin = await register(both[0])
        code = (await recovery_codes(both[0], admin))[0]
        body = {"email": admin.email, "password": "tide-and-lantern-42", "code": code}

        answers = await asyncio.gather(*(both[n % 2].post("/v1/auth/login", json=body) for n in range(8)))

        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 6, 429: 1}

    async def test_two_admins_cannot_disable_each_other(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])
        joined = await accept(both[0], await invited_token(both[0], admin, postgres_url, role="admin"))
        profile = await both[0].get(
            "/v1/users/me", headers={"Authorization": f"Bearer {joined.json()['access_token']}"}
        )
        other = Admin(
            "grace@harbour.example",
            admin.institution_id,
            profile.json()["user_id"],
            joined.json()["access_token"],
            joined.json()["refresh_token"],
        )

        answers = await asyncio.gather(
            change(both[0], admin, other.user_id, disabled=True),
            change(both[1], other, admin.user_id, disabled=True),
        )

        assert sorted(answer.status_code for answer in answers) == [200, 401]
        assert rows(postgres_url, "SELECT count(*) FROM users WHERE disabled_at_ms IS NULL") == [(1,)]

    async def test_logins_and_changes_of_role_leave_no_session_with_the_old_rights(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])
        await accept(both[0], await invited_token(both[0], admin, postgres_url))
        ((user_id,),) = rows(postgres_url, "SELECT user_id FROM users WHERE role = 'analyst'")
        member = Admin("grace@harbour.example", admin.institution_id, user_id, "", "")

        answers = await asyncio.gather(
            *(log_in(both[n % 2], member) for n in range(12)),
            change(both[0], admin, user_id, role="viewer"),
        )

        renewed = [
            (await both[0].post("/v1/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]}))
            for answer in answers[:-1]
            if answer.status_code == 200
        ]
        going_on = [answer.json()["access_token"] for answer in renewed if answer.status_code == 200]
        shown = [
            (await both[0].get("/v1/users/me", headers={"Authorization": f"Bearer {token}"})).json()["role"]
            for token in going_on
        ]
        assert answers[-1].status_code == 200
        assert {answer.status_code for answer in answers} <= {200, 401}
        assert set(shown) <= {"viewer"}
        ended = rows(postgres_url, "SELECT session_id FROM sessions WHERE ended_at_ms IS NOT NULL")
        told = rows(postgres_url, "SELECT subject_id FROM access_changes WHERE kind = 'session'")
        assert set(ended) == set(told)

    async def test_what_ends_sessions_never_waits_for_each_other_crosswise(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])
        await accept(both[0], await invited_token(both[0], admin, postgres_url))
        ((user_id,),) = rows(postgres_url, "SELECT user_id FROM users WHERE role = 'analyst'")
        member = Admin("grace@harbour.example", admin.institution_id, user_id, "", "")

        for role in ("viewer", "builder", "analyst", "viewer"):
            logins = [await log_in(both[0], member) for _ in range(8)]
            answers = await asyncio.gather(
                *(
                    both[n % 2].post("/v1/auth/logout", json={"refresh_token": login.json()["refresh_token"]})
                    for n, login in enumerate(logins)
                ),
                change(both[1], admin, user_id, role=role),
                both[0].delete(f"/v1/users/{user_id}/sessions", headers=admin.headers),
            )
            assert [answer.status_code for answer in answers] == [204] * 8 + [200, 204]

    async def test_requests_for_a_second_person_and_changes_of_people_do_not_either(
        self, both: Both, settings: UserSettings, postgres_url: str
    ) -> None:
        chosen = settings.model_copy(update={"database_url": SecretStr(postgres_url)})
        live = await register_live(both[0])
        second = await join(both[0], chosen, "sam@quay.example", institution_id=live.institution_id)
        member = await join(both[0], chosen, "tom@quay.example", institution_id=live.institution_id)
        lowered = await change(both[0], live, member.user_id, role="viewer")
        assert lowered.status_code == 200

        for _ in range(6):
            asked = await change(both[0], live, member.user_id, role="admin")
            approval = f"/v1/approvals/{asked.json()['approval_id']}"
            answers = await asyncio.gather(
                both[1].post(f"{approval}/approve", headers=second.headers),
                change(both[0], live, member.user_id, role="builder"),
                change(both[1], second, member.user_id, role="analyst"),
                invite(both[0], live, email="new@quay.example", role="admin"),
                *(log_in(both[n % 2], member) for n in range(4)),
            )
            statuses = [answer.status_code for answer in answers]
            assert statuses[:4] == [200, 200, 200, 202]
            assert set(statuses[4:]) <= {200, 401}
            waiting = f"/v1/approvals/{answers[3].json()['approval_id']}"
            others = await asyncio.gather(
                both[0].post(f"{waiting}/withdraw", headers=live.headers),
                change(both[1], second, member.user_id, role="viewer"),
                change(both[0], live, member.user_id, disabled=True),
            )
            assert [answer.status_code for answer in others] == [200, 200, 200]
            enabled = await change(both[0], live, member.user_id, disabled=False)
            assert enabled.status_code == 200

    async def test_events_are_numbered_without_gaps(self, both: Both, postgres_url: str) -> None:
        admins = [await register(both[0], email=f"ada{n}@harbour.example") for n in range(2)]
        await asyncio.gather(
            *(log_in(both[n % 2], admins[n % 3 % 2]) for n in range(12)),
            *(
                both[n % 2].request("DELETE", "/v1/users/me/sessions", headers=admins[n % 2].headers)
                for n in range(4)
            ),
        )

        found = rows(postgres_url, "SELECT institution_id, sequence, body FROM identity_events ORDER BY 1, 2")
        by_institution = Counter(institution_id for institution_id, _, _ in found)
        numbers = [(institution_id, number) for institution_id, number, _ in found]
        assert numbers == [
            (institution_id, number)
            for institution_id in sorted(by_institution)
            for number in range(1, by_institution[institution_id] + 1)
        ]
        assert all(json.loads(bytes(body))["event"]["event_sequence"] == number for _, number, body in found)
        versions = [row[0] for row in rows(postgres_url, "SELECT version FROM access_changes ORDER BY 1")]
        assert len(set(versions)) == len(versions)


class TestKeysOfSomebodyWhoIsDisabled:
    async def test_are_all_revoked_and_named_whatever_is_done_to_them_meanwhile(
        self, both: Both, settings: UserSettings, postgres_url: str
    ) -> None:
        """Made, rotated, revoked and used at the same time: nobody waits for each other, and no key is left."""
        admin = await register(both[0])
        chosen = settings.model_copy(update={"database_url": SecretStr(postgres_url)})
        service = await service_token(both[0], "ai_service", AI_SECRET)
        polling = bearer(service.json()["access_token"])
        for number in range(6):
            maker = await join(
                both[0], chosen, f"m{number}@harbour.example", institution_id=admin.institution_id
            )
            made = [(await make_key(both[0], maker))["key_id"] for _ in range(4)]
            new, used = {"name": "late", "scopes": ["score:write"]}, [*reversed(made)]
            uses = {"uses": [{"key_id": key_id, "used_at_ms": epoch_ms()} for key_id in used]}

            disabled, created, rotated, revoked, told = await asyncio.gather(
                change(both[0], admin, maker.user_id, disabled=True, revoke_api_keys=True),
                both[1].post("/v1/api-keys", headers=maker.headers, json=new),
                both[1].post(f"/v1/api-keys/{made[0]}/rotate", headers=maker.headers),
                both[1].delete(f"/v1/api-keys/{made[1]}", headers=admin.headers),
                both[1].post("/v1/internal/key-uses", headers=polling, json=uses),
            )

            assert disabled.status_code == 200, disabled.text
            assert created.status_code in {201, 401}  # before or after
            assert rotated.status_code in {201, 401, 409}
            assert (revoked.status_code, told.status_code) == (204, 204), (revoked.text, told.text)
            of_maker = f"FROM api_keys WHERE created_by = '{maker.user_id}'"
            assert rows(postgres_url, f"SELECT count(*) {of_maker} AND revoked_at_ms IS NULL") == [(0,)]
            named = {each["key_id"] for each in disabled.json()["api_keys"]}
            all_of_them = {row[0] for row in rows(postgres_url, f"SELECT key_id {of_maker}")}
            assert all_of_them - named <= {made[1]}  # which may have been revoked just before


def invitation_tokens(url: str, email: str) -> list[str]:
    query = (
        "SELECT token_id FROM mailed_tokens JOIN users USING (user_id)"
        " WHERE email = %s AND used_at_ms IS NULL ORDER BY token_id"
    )
    return [token_text(keys().mailed_tokens, token_id) for (token_id,) in rows(url, query, email)]


def add_registrations(url: str, email: str, count: int) -> list[str]:
    """Store registrations of one address that wait; return the tokens that confirm them."""
    later, ids = epoch_ms() + 3_600_000, [new_id("reg") for _ in range(count)]
    password_hash = OWASP_ARGON2ID.hash(PASSWORD)
    for registration_id in ids:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO registrations VALUES (%s, 'Quay Bank', 'live', 'EUR', %s, %s, 'Liv', %s, 1, %s)",
                (registration_id, email, email, password_hash, later),
            )
    return [token_text(keys().mailed_tokens, registration_id) for registration_id in ids]


async def confirm(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/institutions/confirm", json={"token": token, "password": PASSWORD})


def accounts(url: str, email: str) -> int:
    query = "SELECT count(*) FROM users WHERE email = %s AND password_hash <> ''"
    return int(rows(url, query, email)[0][0])


class TestOneAddress:
    """It has one account, whoever comes first; nobody waits for each other crosswise."""

    async def test_joins_one_of_the_institutions_whose_invitations_it_accepts_at_once(
        self, both: Both, postgres_url: str
    ) -> None:
        admins = [await register(both[0], email=f"ada{n}@harbour.example") for n in range(4)]
        for number in range(4):
            email = f"grace{number}@harbour.example"
            for admin in admins:
                assert (await invite(both[0], admin, email=email)).status_code == 201

            answers = await asyncio.gather(
                *(
                    accept(both[n % 2], token)
                    for n, token in enumerate(invitation_tokens(postgres_url, email))
                )
            )

            assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 3}
            assert accounts(postgres_url, email) == 1

    async def test_is_registered_or_joins_but_not_both(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])
        for number in range(4):
            email = f"liv{number}@quay.example"
            await invite(both[0], admin, email=email)
            (invitation,) = invitation_tokens(postgres_url, email)
            first, second = add_registrations(postgres_url, email, 2)

            answers = await asyncio.gather(
                accept(both[0], invitation),
                confirm(both[1], first),
                confirm(both[0], second),
                both[1].post("/v1/institutions", json=registration(email=email)),
            )

            statuses = Counter(answer.status_code for answer in answers)
            assert statuses[409] == 3
            assert statuses[200] + statuses[201] == 1
            assert accounts(postgres_url, email) == 1

    async def test_is_invited_once_by_an_institution_that_does_it_twice_at_once(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])

        answers = await asyncio.gather(*(invite(both[n % 2], admin) for n in range(6)))

        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 5}
        assert rows(postgres_url, "SELECT count(*) FROM users") == [(2,)]

    async def test_confirms_a_registration_once(self, both: Both, postgres_url: str) -> None:
        (token,) = add_registrations(postgres_url, "liv@quay.example", 1)

        answers = await asyncio.gather(*(confirm(both[n % 2], token) for n in range(6)))

        assert Counter(answer.status_code for answer in answers) == {201: 1, 401: 5}

    async def test_confirms_one_registration_once_with_the_tokens_of_several(
        self, both: Both, postgres_url: str
    ) -> None:
        email = "liv@quay.example"
        tokens = add_registrations(postgres_url, email, 3)
        rows(postgres_url, "UPDATE registrations SET password_hash = 'x' RETURNING 1")
        add_registrations(postgres_url, email, 1)

        answers = await asyncio.gather(*(confirm(both[n % 2], token) for n, token in enumerate(tokens * 2)))

        assert Counter(answer.status_code for answer in answers) == {201: 1, 401: 5}
        assert accounts(postgres_url, email) == 1

    async def test_is_there_or_gone_as_the_answer_said_when_its_invitation_expires_meanwhile(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])
        database = Database(postgres_url)
        tasks = AccountTasks(database, keep_approvals_ms=400 * DAY_MS)
        for number in range(6):
            email = f"grace{number}@harbour.example"
            await invite(both[0], admin, email=email)
            (token,) = invitation_tokens(postgres_url, email)
            in_eight_days = epoch_ms() + 8 * 86_400_000

            accepting = asyncio.create_task(accept(both[0], token))
            await asyncio.gather(*(tasks.forget_old(now_ms=in_eight_days) for _ in range(2)))
            answer = await accepting

            assert answer.status_code in {200, 401}
            assert accounts(postgres_url, email) == (answer.status_code == 200)
            left = "SELECT count(*) FROM users WHERE email = %s"
            assert rows(postgres_url, left, email) == [(int(answer.status_code == 200),)]
        await database.engine.dispose()
