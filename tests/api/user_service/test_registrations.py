"""Registrations that are confirmed by mail: the answer says nothing about who has an account."""

import asyncio
import sqlite3
from collections import Counter

import httpx
import pytest

from common.app import create_app
from common.clock import epoch_ms
from tests.api.user_service.appointed import changed
from tests.api.user_service.conftest import PASSWORD, Admin, problem_type, register, registration
from tests.api.user_service.people import (
    accept,
    at,
    events,
    executed_statements,
    invite,
    me,
    newest_token,
    notices,
    until_notices,
    until_tasks_are_done,
)
from tests.asgi import open_app_apart
from user_service.account_work.service import AccountTasks
from user_service.main import SERVICE
from user_service.registrations.service import MOST_OTHERS, MOST_WAITING, PER_CLIENT_PER_DAY
from user_service.settings import UserSettings

DAY_MS = 86_400_000
NEW = "liv@quay.example"
OF_A_STRANGER = "a-quay-under-four-moons"
OF_EACH_ANSWER = {"x-request-id": "", "ratelimit": ""}


@pytest.fixture
def settings(settings: UserSettings) -> UserSettings:
    return changed(settings, registration="verified")


@pytest.fixture
async def admin(settings: UserSettings, client: httpx.AsyncClient) -> Admin:
    """Somebody who has an account; they registered when that was open."""
    async with open_app_apart(create_app(SERVICE, changed(settings, registration="open"))) as before:
        return await register(before)


async def ask(client: httpx.AsyncClient, email: str = NEW, **changes: object) -> httpx.Response:
    return await client.post("/v1/institutions", json=registration(email=email, **changes))


async def asked_token(client: httpx.AsyncClient, database: sqlite3.Connection, email: str = NEW) -> str:
    """Ask, and return the token from the mail."""
    await until_tasks_are_done(database)  # a mail that was asked for earlier is not the one waited for
    before = len(notices(database, "registration"))
    assert (await ask(client, email)).status_code == 202
    await until_notices(database, "registration", before + 1)
    return newest_token(database, "registration")


async def confirm(client: httpx.AsyncClient, token: str, *, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/v1/institutions/confirm", json={"token": token, "password": password})


def institutions(database: sqlite3.Connection) -> int:
    query = "SELECT count(*) FROM institutions WHERE institution_id != 'platform'"
    (count,) = database.execute(query).fetchone()
    return int(count)


class TestDefault:
    def test_of_a_service_that_is_told_nothing_is_to_confirm(self) -> None:
        assert UserSettings(_env_file=None).registration == "verified"


class TestAsking:
    async def test_answers_alike_for_every_address(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin, email="grace@harbour.example")

        answers = [
            await ask(client, email)
            for email in (NEW, NEW, admin.email, "ADA@harbour.example", "grace@harbour.example")
        ]

        assert {answer.status_code for answer in answers} == {202}
        assert {answer.content for answer in answers} == {
            b'{"state":"confirmation_awaited","expires_in":86400}'
        }
        first, *others = [{**answer.headers, **OF_EACH_ANSWER} for answer in answers]
        assert others == [first] * 4

    async def test_does_the_same_before_it_answers_for_every_address(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        with executed_statements() as of_unknown:
            await ask(client)
        with executed_statements() as of_known:
            await ask(client, admin.email)

        assert of_unknown == of_known
        assert any(statement.startswith("INSERT INTO registrations") for statement in of_known)
        assert not any("users" in statement for statement in of_known)

    async def test_makes_nothing_and_lets_nobody_in_yet(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        await ask(client)

        login = await client.post("/v1/auth/login", json={"email": NEW, "password": PASSWORD})

        assert problem_type(login) == "invalid-credentials"
        assert institutions(database) == 0
        assert database.execute("SELECT count(*) FROM users").fetchone() == (0,)

    async def test_mails_a_token_of_a_day_and_nothing_that_the_asker_wrote(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        await ask(client, "Liv@Quay.example")

        (notice,) = await until_notices(database, "registration", 1)
        (life,) = database.execute("SELECT expires_at_ms - created_at_ms FROM registrations").fetchone()
        assert notice["recipients"] == ["Liv@quay.example"]
        assert notice["institution_id"] == "platform"
        assert notice["facts"] == {"institution_name": "Assay"}
        assert notice["secret"] is None
        assert life == DAY_MS

    async def test_stores_neither_the_password_nor_the_token(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)

        stored = "\n".join(database.iterdump())

        assert PASSWORD not in stored
        assert token.split(".")[1] not in stored

    async def test_with_an_address_that_has_an_account_tells_its_owner(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await ask(client, "ADA@harbour.example", full_name="Mallory")

        (notice,) = await until_notices(database, "address_in_use", 1)
        assert notice["recipients"] == [admin.email]
        assert notice["institution_id"] == admin.institution_id
        assert notice["facts"] == {"institution_name": "Harbour Payments", "institution_mode": "sandbox"}
        assert notice["token_id"] is None
        assert notices(database, "registration") == []

    async def test_with_the_address_of_a_disabled_account_tells_nobody(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        database.execute("UPDATE users SET disabled_at_ms = 1")

        response = await ask(client, admin.email)

        await until_tasks_are_done(database)
        assert response.status_code == 202
        assert database.execute("SELECT count(*) FROM notices").fetchone() == (0,)

    @pytest.mark.parametrize(
        ("email", "kind"), [(NEW, "registration"), ("ada@harbour.example", "address_in_use")]
    )
    async def test_mails_an_address_three_times_a_day_and_never_says_so(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        email: str,
        kind: str,
    ) -> None:
        answers = [await ask(client, each) for each in (email, email.upper(), email, email, email)]
        await until_tasks_are_done(database)
        mailed, waiting = len(notices(database, kind)), database.execute("SELECT count(*) FROM registrations")
        waiting_then = waiting.fetchone()
        database.execute("UPDATE mail_counts SET first_at_ms = first_at_ms - ?", (DAY_MS,))
        await ask(client, email)
        await until_tasks_are_done(database)

        assert len({(answer.status_code, answer.content) for answer in answers}) == 1
        assert (mailed, waiting_then) == (3, (5,))
        assert len(notices(database, kind)) == 4

    @pytest.mark.parametrize("email", [NEW, "ada@harbour.example"])
    async def test_refuses_a_weak_password_for_every_address(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, email: str
    ) -> None:
        response = await ask(client, email, password="passwordpassword")

        assert response.status_code == 422
        assert problem_type(response) == "weak-password"
        assert database.execute("SELECT count(*) FROM registrations").fetchone() == (0,)

    async def test_is_refused_for_every_address_while_too_many_wait(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        later = epoch_ms() + DAY_MS
        database.executemany(
            "INSERT INTO registrations VALUES (?, 'Many', 'live', 'EUR', 'many@quay.example',"
            " 'many@quay.example', 'Many', 'x', 1, ?)",
            [(f"reg_{number}", later) for number in range(MOST_WAITING)],
        )

        answers = [await ask(client, email) for email in (NEW, admin.email)]
        database.execute("UPDATE registrations SET expires_at_ms = 1 WHERE registration_id = 'reg_0'")
        with_room = await ask(client)

        assert [answer.status_code for answer in answers] == [503, 503]
        assert {problem_type(answer) for answer in answers} == {"registrations-full"}
        assert answers[0].headers["retry-after"] == "3600"
        assert with_room.status_code == 202


async def spend(client: httpx.AsyncClient, database: sqlite3.Connection) -> None:
    """Ask once, and let so many have come from the same client that no other one is taken today."""
    assert (await ask(client, "first@quay.example")).status_code == 202
    database.execute(
        "UPDATE mail_counts SET mails = ? WHERE purpose = 'registrations_by'", (PER_CLIENT_PER_DAY,)
    )


class TestAskingOften:
    async def test_is_refused_after_twenty_from_one_client_whatever_they_name(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        taken = [
            await ask(client, f"liv{number}@quay.example" if number % 2 else admin.email)
            for number in range(20)
        ]
        refused = [await ask(client, email) for email in (NEW, admin.email)]

        assert {answer.status_code for answer in taken} == {202}
        assert [(answer.status_code, problem_type(answer)) for answer in refused] == [
            (429, "too-many-registrations")
        ] * 2
        assert 86_000 < int(refused[0].headers["retry-after"]) <= 86_400
        assert refused[0].json().keys() == refused[1].json().keys()
        assert database.execute("SELECT count(*) FROM registrations").fetchone() == (20,)

    async def test_leaves_others_to_register(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        await spend(client, database)

        async with at(client, "203.0.113.9") as other:
            response = await ask(other)

        assert response.status_code == 202

    async def test_counts_the_network_of_an_ipv6_subscriber_as_one(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        async with at(client, "2001:db8::1") as one:
            await spend(one, database)

        async with at(client, "2001:db8::ffff:2") as next_door, at(client, "2001:db8:0:1::1") as elsewhere:
            answers = [await ask(next_door), await ask(elsewhere)]

        assert [answer.status_code for answer in answers] == [429, 202]

    async def test_is_taken_again_a_day_later_since_nothing_that_was_refused_counts(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        await spend(client, database)
        for _ in range(3):
            await ask(client)
        counted = "SELECT mails FROM mail_counts WHERE purpose = 'registrations_by'"
        after_refusals = database.execute(counted).fetchall()
        database.execute("UPDATE mail_counts SET first_at_ms = first_at_ms - ?", (DAY_MS,))

        response = await ask(client)

        assert after_refusals == [(PER_CLIENT_PER_DAY,)]
        assert response.status_code == 202

    async def test_keeps_no_address_of_a_client(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        async with at(client, "203.0.113.9") as asker:
            await ask(asker)

        assert "203.0.113.9" not in "\n".join(database.iterdump())

    async def test_is_not_bounded_where_nothing_waits(
        self, client: httpx.AsyncClient, settings: UserSettings, database: sqlite3.Connection
    ) -> None:
        await spend(client, database)

        async with open_app_apart(create_app(SERVICE, changed(settings, registration="open"))) as opened:
            response = await ask(opened)

        assert response.status_code == 201


class TestAnAddressThatStrangersRegister:
    async def test_is_confirmed_by_its_owner_with_a_token_of_theirs_and_the_own_password(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        async with at(client, "203.0.113.9") as stranger:
            for _ in range(3):
                await ask(stranger, NEW.upper(), password=OF_A_STRANGER, full_name="Mallory")
        await ask(client, full_name="Liv")
        await until_notices(database, "registration", 3)
        await until_tasks_are_done(database)
        token = newest_token(database, "registration")

        response = await confirm(client, token)

        profile = await me(client, response.json()["tokens"]["access_token"])
        login = await client.post("/v1/auth/login", json={"email": NEW, "password": OF_A_STRANGER})
        assert len(notices(database, "registration")) == 3
        assert response.status_code == 201
        assert (profile["full_name"], profile["email"]) == ("Liv", NEW)
        assert problem_type(login) == "invalid-credentials"
        assert institutions(database) == 1
        with_the_others = await confirm(client, token, password=OF_A_STRANGER)
        assert (with_the_others.status_code, problem_type(with_the_others)) == (409, "email-taken")

    async def test_keeps_a_mailed_registration_however_many_come_after_it(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)
        add_later(database, MOST_OTHERS + 5)

        response = await confirm(client, token)

        assert response.status_code == 201

    @pytest.mark.parametrize(("later", "status"), [(MOST_OTHERS - 1, 201), (MOST_OTHERS, 401)])
    async def test_is_compared_with_its_ten_newest_registrations(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, later: int, status: int
    ) -> None:
        async with at(client, "203.0.113.9") as stranger:
            await ask(stranger, password=OF_A_STRANGER)
        await until_notices(database, "registration", 1)
        token = newest_token(database, "registration")
        await ask(client)
        add_later(database, later)

        response = await confirm(client, token)

        assert response.status_code == status

    async def test_gets_the_newest_of_those_that_have_the_password(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        async with at(client, "203.0.113.9") as stranger:
            await ask(stranger, password=OF_A_STRANGER)
        await until_notices(database, "registration", 1)
        token = newest_token(database, "registration")
        for number, name in enumerate(("First", "Last", "Middle")):
            await ask(client, full_name=name)
            database.execute(
                "UPDATE registrations SET created_at_ms = ? WHERE full_name = ?", ((1, 3, 2)[number], name)
            )

        response = await confirm(client, token)

        profile = await me(client, response.json()["tokens"]["access_token"])
        assert profile["full_name"] == "Last"

    async def test_is_not_confirmed_with_a_registration_that_expired(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        async with at(client, "203.0.113.9") as stranger:
            await ask(stranger, password=OF_A_STRANGER)
        await until_notices(database, "registration", 1)
        token = newest_token(database, "registration")
        await ask(client, full_name="Liv")
        database.execute("UPDATE registrations SET expires_at_ms = ? WHERE full_name = 'Liv'", (epoch_ms(),))

        response = await confirm(client, token)

        assert (response.status_code, problem_type(response)) == (401, "invalid-mailed-token")

    async def test_is_not_confirmed_with_a_token_of_another_address(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database, "mallory@quay.example")
        database.execute("DELETE FROM registrations")
        await ask(client)
        other = await asked_token(client, database, "eve@quay.example")
        database.execute("UPDATE registrations SET password_hash = 'x' WHERE email_key LIKE 'eve%'")

        answers = [await confirm(client, token), await confirm(client, other)]

        assert [answer.status_code for answer in answers] == [401, 401]
        assert institutions(database) == 0

    async def test_confirmed_with_two_tokens_at_once_becomes_one_institution(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        tokens = [
            await asked_token(client, database, NEW),
            await asked_token(client, database, NEW.upper()),
        ]
        database.execute("UPDATE registrations SET password_hash = 'x'")
        await ask(client)

        answers = await asyncio.gather(*(confirm(client, token) for token in tokens * 2))

        assert Counter(answer.status_code for answer in answers) == {201: 1, 401: 3}
        assert institutions(database) == 1


def add_later(database: sqlite3.Connection, count: int) -> None:
    """Store registrations of the new address that a stranger made after all others."""
    later = epoch_ms() + DAY_MS
    database.executemany(
        "INSERT INTO registrations VALUES (?, 'Many', 'live', 'EUR', ?, ?, 'Many', 'x', ?, ?)",
        [(f"reg_{number}", NEW, NEW, later, later) for number in range(count)],
    )


class TestConfirming:
    async def test_makes_the_institution_and_logs_its_admin_in(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)

        response = await confirm(client, token)

        body = response.json()
        profile = await me(client, body["tokens"]["access_token"])
        login = await client.post("/v1/auth/login", json={"email": NEW, "password": PASSWORD})
        assert response.status_code == 201
        assert set(body) == {"institution_id", "user_id", "tokens"}
        assert (profile["user_id"], profile["email"], profile["role"]) == (body["user_id"], NEW, "admin")
        assert profile["full_name"] == "Ada Okafor"
        assert profile["institution"] == {
            "institution_id": body["institution_id"],
            "name": "Harbour Payments",
            "mode": "sandbox",
            "base_currency": "EUR",
        }
        assert login.status_code == 200
        (event,) = events(database, "institution.registered")
        assert event["subject"]["id"] == body["institution_id"]
        assert event["details"] == {"mode": "sandbox", "base_currency": "EUR", "tier": "starter"}

    async def test_works_once(self, client: httpx.AsyncClient, database: sqlite3.Connection) -> None:
        token = await asked_token(client, database)
        await confirm(client, token)

        again = await confirm(client, token)

        assert again.status_code == 401
        assert problem_type(again) == "invalid-mailed-token"
        assert institutions(database) == 1

    async def test_of_a_registration_that_a_stranger_made_takes_the_password_that_the_stranger_chose(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        """Whoever owns the address does not know it, so no account of theirs can be one that a stranger logs in to."""
        token = await asked_token(client, database)

        response = await confirm(client, token, password=OF_A_STRANGER)

        assert (response.status_code, problem_type(response)) == (401, "invalid-mailed-token")
        assert institutions(database) == 0
        assert database.execute("SELECT failures FROM attempts").fetchall() == [(1,)]
        assert (await confirm(client, token)).status_code == 201

    async def test_by_six_at_once_makes_one_institution(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)

        answers = await asyncio.gather(*(confirm(client, token) for _ in range(6)))

        assert Counter(answer.status_code for answer in answers) == {201: 1, 401: 5}
        assert institutions(database) == 1

    async def test_is_refused_after_a_day(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)
        database.execute("UPDATE registrations SET expires_at_ms = ?", (epoch_ms(),))

        response = await confirm(client, token)

        assert problem_type(response) == "invalid-mailed-token"
        assert institutions(database) == 0

    async def test_of_a_second_registration_of_one_address_is_refused(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        tokens = [await asked_token(client, database), await asked_token(client, database, NEW.upper())]

        answers = [await confirm(client, token) for token in tokens]

        assert [answer.status_code for answer in answers] == [201, 409]
        assert problem_type(answers[1]) == "email-taken"
        assert institutions(database) == 1

    @pytest.mark.parametrize("token", ["x", "reg_1.", "reg_1." + "0" * 64, "x" * 256])
    async def test_of_what_was_never_mailed_is_refused_and_counted(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, token: str
    ) -> None:
        response = await confirm(client, token)

        assert response.status_code == 401
        assert problem_type(response) == "invalid-mailed-token"
        assert database.execute("SELECT failures FROM attempts").fetchall() == [(1,)]

    async def test_is_taken_at_an_address_that_others_have_locked_while_nothing_wrong_is_looked_at(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)
        await confirm(client, "x")
        database.execute("UPDATE attempts SET failures = 99")
        await confirm(client, "x")

        wrong = [await confirm(client, "x"), await confirm(client, token, password="not-the-right-one")]
        right = await confirm(client, token)

        assert [(answer.status_code, problem_type(answer)) for answer in wrong] == [
            (429, "too-many-attempts")
        ] * 2
        assert right.status_code == 201

    async def test_takes_no_token_of_another_kind_and_its_own_is_none(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)
        await invite(client, admin)

        with_an_invitation = await confirm(client, newest_token(database, "invitation"))
        as_an_invitation = await accept(client, token)

        assert (with_an_invitation.status_code, as_an_invitation.status_code) == (401, 401)
        assert (await confirm(client, token)).status_code == 201

    async def test_of_an_address_that_is_only_invited_elsewhere_makes_it_its_owners(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin, email=NEW)
        invitation = newest_token(database, "invitation")

        confirmed = await confirm(client, await asked_token(client, database))
        accepted = await accept(client, invitation)

        assert confirmed.status_code == 201
        assert (accepted.status_code, problem_type(accepted)) == (409, "email-taken")


class TestForgetting:
    async def test_takes_what_was_not_confirmed_in_a_day(
        self, client: httpx.AsyncClient, tasks: AccountTasks, database: sqlite3.Connection
    ) -> None:
        await asked_token(client, database)
        await asked_token(client, database, "sam@quay.example")
        now = epoch_ms()
        database.execute("UPDATE registrations SET expires_at_ms = ? WHERE email = ?", (now, NEW))
        old = "UPDATE mail_counts SET first_at_ms = ? WHERE whom = ?"
        database.execute(old, (now - DAY_MS, NEW))

        await tasks.forget_old(now_ms=now)

        left = [("sam@quay.example",)]
        counts = "SELECT whom FROM mail_counts WHERE purpose = 'registration'"
        assert database.execute("SELECT email FROM registrations").fetchall() == left
        assert database.execute(counts).fetchall() == left


class TestClosed:
    @pytest.mark.parametrize("path", ["/v1/institutions", "/v1/institutions/confirm"])
    @pytest.mark.parametrize("body", [b"{", b"{}", b"[" * 5000])
    async def test_is_answered_before_the_body_is_read(
        self, settings: UserSettings, path: str, body: bytes
    ) -> None:
        async with open_app_apart(create_app(SERVICE, changed(settings, registration="closed"))) as closed:
            response = await closed.post(path, content=body, headers={"Content-Type": "application/json"})

        assert response.status_code == 403
        assert problem_type(response) == "registration-closed"
        assert '"address"' in response.headers["ratelimit-policy"]

    async def test_lets_nobody_confirm_what_they_asked_before(
        self, client: httpx.AsyncClient, settings: UserSettings, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, database)

        async with open_app_apart(create_app(SERVICE, changed(settings, registration="closed"))) as closed:
            response = await confirm(closed, token)

        assert problem_type(response) == "registration-closed"
        assert institutions(database) == 0
