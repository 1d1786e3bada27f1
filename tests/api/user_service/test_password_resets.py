import asyncio
import sqlite3
from contextlib import closing

import httpx
import pytest

from common.app import create_app
from common.clock import epoch_ms
from tests.api.user_service.conftest import PASSWORD, Admin, log_in, problem_type, refresh, register
from tests.api.user_service.people import (
    MINUTE_MS,
    NEW_PASSWORD,
    accept,
    add_second_factor,
    asked_reset,
    change,
    events,
    executed_statements,
    fail_before,
    file_of,
    invite,
    newest_token,
    notices,
    session_ids,
    told_sessions,
    until_notices,
    until_tasks_are_done,
)
from tests.asgi import open_app_apart
from tests.waiting import eventually
from user_service.account_work.service import MAX_TRIES, AccountTasks
from user_service.main import SERVICE
from user_service.settings import UserSettings


async def ask(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/v1/auth/password-resets", json={"email": email})


async def confirm(client: httpx.AsyncClient, token: str, *, password: str = NEW_PASSWORD) -> httpx.Response:
    return await client.post("/v1/auth/password-resets/confirm", json={"token": token, "password": password})


async def asked_token(client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection) -> str:
    return await asked_reset(client, admin.email, database)


def add_reset(database: sqlite3.Connection, task_id: str, of: Admin, *, due_at_ms: int = 1) -> None:
    database.execute(
        "INSERT INTO account_tasks VALUES (?, 'reset', ?, '', '', NULL, 1, 0, ?)",
        (task_id, of.user_id, due_at_ms),
    )


class TestAsk:
    async def test_answers_alike_for_every_address(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        known = await ask(client, admin.email)
        unknown = await ask(client, "nobody@harbour.example")

        assert (known.status_code, unknown.status_code) == (202, 202)
        assert known.json() == unknown.json() == {"expires_in": 3600}
        assert known.content == unknown.content
        of_each = {"x-request-id": "", "ratelimit": ""}  # what it is, and how many may follow
        assert {**known.headers, **of_each} == {**unknown.headers, **of_each}

    async def test_does_the_same_before_it_answers_for_every_address(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        with executed_statements() as of_unknown:
            await ask(client, "nobody@harbour.example")
        with executed_statements() as of_known:
            await ask(client, admin.email)

        assert of_unknown == of_known
        assert any(statement.startswith("INSERT INTO account_tasks") for statement in of_known)

    async def test_mails_a_token_of_an_hour_to_the_accounts_own_address(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        answer = await ask(client, "ADA@harbour.example")

        (notice,) = await until_notices(database, "password_reset", 1)
        (life,) = database.execute("SELECT expires_at_ms - created_at_ms FROM mailed_tokens").fetchone()
        assert notice["recipients"] == [admin.email]
        assert notice["facts"] == {"institution_name": "Harbour Payments", "institution_mode": "sandbox"}
        assert notice["secret"] is None
        assert life == 60 * MINUTE_MS
        (asked,) = events(database, "password.reset_asked")
        assert asked["actor"] == {"kind": "anonymous", "id": None}
        assert asked["subject"] == {"kind": "user", "id": admin.user_id}
        assert asked["request_id"] == answer.headers["X-Request-ID"] != ""

    async def test_mails_nothing_to_an_address_without_an_account(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await ask(client, "nobody@harbour.example")

        await until_tasks_are_done(database)
        assert notices(database, "password_reset") == []

    async def test_mails_nothing_to_somebody_who_is_disabled_or_has_not_joined(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        await ask(client, "grace@harbour.example")
        database.execute("UPDATE users SET disabled_at_ms = 1 WHERE user_id = ?", (admin.user_id,))
        await ask(client, admin.email)

        await until_tasks_are_done(database)
        assert notices(database, "password_reset") == []

    async def test_mails_three_times_an_hour_however_often_it_is_asked(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        answers = [await ask(client, admin.email) for _ in range(6)]

        await until_tasks_are_done(database)
        assert {answer.status_code for answer in answers} == {202}
        assert len(notices(database, "password_reset")) == 3

    async def test_mails_again_an_hour_later(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        for _ in range(3):
            await ask(client, admin.email)
        await until_notices(database, "password_reset", 3)
        an_hour_ago = epoch_ms() - 60 * MINUTE_MS
        database.execute("UPDATE mailed_tokens SET created_at_ms = ?", (an_hour_ago,))

        await ask(client, admin.email)

        assert len(await until_notices(database, "password_reset", 4)) == 4

    @pytest.mark.parametrize("body", [{}, {"email": "ada"}, {"email": "a@h.example", "user_id": "x"}, []])
    async def test_refuses_what_is_no_address(self, client: httpx.AsyncClient, body: object) -> None:
        response = await client.post("/v1/auth/password-resets", json=body)

        assert response.status_code == 422


class TestMailing:
    async def test_of_what_was_asked_before_a_restart_is_made_up_for(self, settings: UserSettings) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            admin = await register(client)
        with closing(sqlite3.connect(file_of(settings), isolation_level=None)) as database:
            add_reset(database, "tsk_1", admin)

            async with open_app_apart(create_app(SERVICE, settings)):
                (notice,) = await until_notices(database, "password_reset", 1)

        assert notice["recipients"] == [admin.email]

    async def test_that_fails_forgets_nothing(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, settings: UserSettings
    ) -> None:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON identity_events BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        add_reset(database, "tsk_1", admin)

        async def failed() -> bool:
            (failures,) = database.execute("SELECT failures FROM account_tasks").fetchone()
            return bool(failures)

        await eventually(failed)
        assert database.execute("SELECT task_id FROM account_tasks").fetchall() == [("tsk_1",)]
        assert notices(database, "password_reset") == []
        database.execute("DROP TRIGGER full")
        assert len(await until_notices(database, "password_reset", 1)) == 1

    async def test_that_fails_keeps_no_other_waiting_and_is_given_up_in_the_end(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        bad, good = [await register(client, email=f"{name}@harbour.example") for name in ("bad", "good")]
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON identity_events WHEN NEW.institution_id = "
            f"'{bad.institution_id}' BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        later_ms = epoch_ms() + 86_400_000  # the running service's own worker does not touch them
        add_reset(database, "tsk_1", bad, due_at_ms=later_ms)
        add_reset(database, "tsk_2", good, due_at_ms=later_ms)

        assert await tasks.do_some(now_ms=later_ms) == 2
        left = database.execute("SELECT task_id, failures FROM account_tasks").fetchall()
        (mailed,) = notices(database, "password_reset")
        too_early = await tasks.do_some(now_ms=later_ms)
        tried = 1
        while await tasks.do_some(now_ms=later_ms + tried * 3_600_000):
            tried += 1

        assert left == [("tsk_1", 1)]
        assert mailed["recipients"] == ["good@harbour.example"]
        assert too_early == 0
        assert tried == MAX_TRIES
        assert database.execute("SELECT task_id FROM account_tasks").fetchall() == []


class TestConfirm:
    async def test_sets_the_password_and_logs_nobody_in(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, admin, database)

        response = await confirm(client, token)

        assert response.status_code == 204
        assert response.content == b""
        assert (await log_in(client, admin)).status_code == 401
        assert (await log_in(client, admin, password=NEW_PASSWORD)).status_code == 200

    async def test_ends_all_sessions_everywhere_and_tells_the_owner(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await log_in(client, admin)
        open_before = session_ids(database, admin.user_id)
        token = await asked_token(client, admin, database)

        await confirm(client, token)

        (notice,) = notices(database, "security_change")
        assert len(open_before) == 2
        assert told_sessions(database) == open_before
        assert (await refresh(client, admin.refresh_token)).status_code == 401
        assert notice["recipients"] == [admin.email]
        assert notice["facts"]["change"] == "the password was reset"
        assert len(events(database, "password.reset")) == 1
        assert {ended["details"]["reason"] for ended in events(database, "session.ended")} == {
            "password_reset"
        }

    async def test_unlocks_the_account(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await log_in(client, admin, password="not-the-password-1")
        fail_before(database, 9)
        await log_in(client, admin, password="not-the-password-1")
        assert (await log_in(client, admin)).status_code == 429
        token = await asked_token(client, admin, database)

        await confirm(client, token)

        assert (await log_in(client, admin, password=NEW_PASSWORD)).status_code == 200

    async def test_leaves_the_second_factor_on(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await add_second_factor(client, admin, database)
        token = await asked_token(client, admin, database)

        await confirm(client, token)

        assert problem_type(await log_in(client, admin, password=NEW_PASSWORD)) == "second-factor-needed"

    async def test_works_once(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, admin, database)
        await confirm(client, token)

        again = await confirm(client, token, password="another-quay-under-moons")

        assert again.status_code == 401
        assert problem_type(again) == "invalid-mailed-token"

    async def test_by_twenty_at_once_sets_one_password(
        self, roomy: httpx.AsyncClient, admin_of_roomy: Admin, database_of_roomy: sqlite3.Connection
    ) -> None:
        token = await asked_token(roomy, admin_of_roomy, database_of_roomy)

        answers = await asyncio.gather(
            *(confirm(roomy, token, password=f"a-quay-under-{number}-moons") for number in range(20))
        )

        winner = next(number for number, answer in enumerate(answers) if answer.status_code == 204)
        login = await log_in(roomy, admin_of_roomy, password=f"a-quay-under-{winner}-moons")
        assert [answer.status_code for answer in answers].count(204) == 1
        assert login.status_code == 200

    async def test_makes_the_other_tokens_worthless(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        older = await asked_token(client, admin, database)
        await ask(client, admin.email)
        await until_notices(database, "password_reset", 2)

        used = await confirm(client, newest_token(database, "password_reset"))
        other = await confirm(client, older)

        assert (used.status_code, other.status_code) == (204, 401)

    async def test_is_refused_after_the_password_was_changed(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, admin, database)
        await client.patch(
            "/v1/users/me",
            headers=admin.headers,
            json={"password": NEW_PASSWORD, "current_password": PASSWORD},
        )

        response = await confirm(client, token, password="another-quay-under-moons")

        assert response.status_code == 401

    @pytest.mark.parametrize("column", ["mailed_tokens.expires_at_ms", "users.disabled_at_ms"])
    async def test_of_an_expired_token_or_a_disabled_user_is_refused(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, column: str
    ) -> None:
        token = await asked_token(client, admin, database)
        table, name = column.split(".")
        database.execute(f"UPDATE {table} SET {name} = 1")  # noqa: S608 - names from this test

        response = await confirm(client, token)

        assert problem_type(response) == "invalid-mailed-token"

    async def test_refuses_a_weak_password_and_leaves_the_token_as_it_is(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        token = await asked_token(client, admin, database)

        weak = await confirm(client, token, password="passwordpassword")

        assert problem_type(weak) == "weak-password"
        assert (await confirm(client, token)).status_code == 204

    async def test_takes_no_invitation_and_is_none(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        reset = await asked_token(client, admin, database)
        await invite(client, admin)
        invitation = newest_token(database, "invitation")

        assert (await confirm(client, invitation)).status_code == 401
        assert (await accept(client, reset)).status_code == 401

    async def test_does_not_bring_back_somebody_disabled_meanwhile(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        joined = await accept(client, newest_token(database, "invitation"))
        user_id = events(database, "user.joined")[0]["subject"]["id"]
        await ask(client, "grace@harbour.example")
        await until_notices(database, "password_reset", 1)
        await change(client, admin, user_id, disabled=True)

        response = await confirm(client, newest_token(database, "password_reset"))

        assert joined.status_code == 200
        assert response.status_code == 401
