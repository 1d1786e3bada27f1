"""Guessing: bounded for each account and each address, the same whether the account exists or not."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from common.app import create_app
from common.clock import epoch_ms
from common.db import Database
from tests.api.user_service.conftest import PASSWORD, Admin, log_in, problem_type, register
from tests.api.user_service.people import (
    MINUTE_MS,
    NEW_PASSWORD,
    accept,
    add_second_factor,
    code_of,
    events,
    executed_statements,
    fail_before,
    invite,
    notices,
    until_notices,
    until_tasks_are_done,
)
from tests.asgi import open_app
from user_service.account_tasks.service import AccountTasks
from user_service.main import SERVICE
from user_service.settings import UserSettings

WRONG = "not-the-password-1"


async def guess(client: httpx.AsyncClient, email: str, password: str = WRONG) -> httpx.Response:
    return await client.post("/v1/auth/login", json={"email": email, "password": password})


async def lock(client: httpx.AsyncClient, email: str, database: sqlite3.Connection) -> None:
    """Let the tenth guess fail."""
    await guess(client, email)
    fail_before(database, 9)
    assert (await guess(client, email)).status_code == 401


def same(answers: list[httpx.Response]) -> bool:
    return len({str({**answer.json(), "request_id": ""}) for answer in answers}) == 1


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hash that every run of Argon2 compared with; the runs are real."""
    seen: list[str] = []
    verify = PasswordHasher.verify

    def noting(self: PasswordHasher, stored: str, password: bytes) -> bool:
        seen.append(stored)
        return verify(self, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", noting)
    return seen


@pytest.fixture
async def tasks(settings: UserSettings, client: httpx.AsyncClient) -> AsyncIterator[AccountTasks]:
    """The work beside the requests, over the running service's database."""
    opened = Database(settings.database_url)
    yield AccountTasks(opened)
    await opened.engine.dispose()


class TestGuessingAPassword:
    async def test_ten_times_locks_for_half_an_hour(self, client: httpx.AsyncClient, admin: Admin) -> None:
        answers = [await guess(client, admin.email) for _ in range(10)]

        locked = await log_in(client, admin)

        assert [answer.status_code for answer in answers] == [401] * 10
        assert locked.status_code == 429
        assert problem_type(locked) == "too-many-attempts"
        assert 1790 <= int(locked.headers["Retry-After"]) <= 1800

    async def test_three_times_is_forgiven_at_once(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        for _ in range(3):
            await guess(client, admin.email)

        assert (await log_in(client, admin)).status_code == 200
        assert database.execute("SELECT failures FROM attempts").fetchall() == [(3,)]  # of the address

    async def test_answers_alike_for_an_address_without_an_account(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        answers = [
            [await guess(client, email) for _ in range(12)]
            for email in (admin.email, "nobody@harbour.example")
        ]

        assert [[answer.status_code for answer in each] for each in answers] == [[401] * 10 + [429] * 2] * 2
        assert same([each[0] for each in answers])
        assert same([each[11] for each in answers])

    async def test_spends_a_password_check_on_known_and_unknown_addresses_alike(
        self, client: httpx.AsyncClient, admin: Admin, checks: list[str]
    ) -> None:
        await guess(client, admin.email)
        await guess(client, "nobody@harbour.example")

        parameters = [stored.rsplit("$", 2)[0] for stored in checks]
        assert parameters == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2

    async def test_asks_the_same_of_the_database_for_known_unknown_disabled_and_invited_addresses(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await invite(client, admin)
        disabled = await register(client, email="eve@elsewhere.example")
        database.execute("UPDATE users SET disabled_at_ms = 1 WHERE user_id = ?", (disabled.user_id,))
        asked = []
        emails = (admin.email, "nobody@harbour.example", "grace@harbour.example", disabled.email)

        for email in emails:
            with executed_statements() as statements:
                await guess(client, email)
            asked.append(statements)
        with executed_statements() as statements:
            await guess(client, disabled.email, PASSWORD)
        asked.append(statements)

        assert asked == [asked[0]] * 5
        assert any(statement.startswith("UPDATE attempts") for statement in asked[0])

    async def test_a_tenth_time_asks_the_same_for_known_and_unknown_addresses(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        asked = []
        for email in (admin.email, "nobody@harbour.example"):
            await guess(client, email)
            fail_before(database, 9)
            with executed_statements() as statements:
                await guess(client, email)
            asked.append(statements)

        assert asked[0] == asked[1]
        assert any(statement.startswith("INSERT INTO account_tasks") for statement in asked[0])

    async def test_spends_none_while_it_is_locked(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        database: sqlite3.Connection,
        checks: list[str],
    ) -> None:
        await lock(client, admin.email, database)
        checks.clear()

        await log_in(client, admin)

        assert checks == []

    @pytest.mark.parametrize(
        "spelling",
        ["ADA@harbour.example", "ada@HARBOUR.EXAMPLE", "Ada@Harbour.Example", "aDa@harbour.example"],
    )
    async def test_is_not_hidden_by_the_case_of_the_address(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, spelling: str
    ) -> None:
        await lock(client, spelling, database)

        assert (await log_in(client, admin)).status_code == 429

    async def test_is_not_hidden_by_the_form_of_the_address(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        composed, decomposed = "ren\u00e9@harbour.example", "rene\u0301@harbour.example"
        rene = await register(client, email=composed)

        await lock(client, decomposed, database)

        assert (await log_in(client, rene)).status_code == 429

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP"])
    async def test_is_not_hidden_by_a_header(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, header: str
    ) -> None:
        await lock(client, admin.email, database)

        response = await client.post(
            "/v1/auth/login",
            json={"email": admin.email, "password": PASSWORD},
            headers={header: "203.0.113.9"},
        )

        assert response.status_code == 429

    async def test_is_counted_by_all_workers_together(
        self, client: httpx.AsyncClient, admin: Admin, settings: UserSettings
    ) -> None:
        async with open_app(create_app(SERVICE, settings)) as other:
            answers = [await guess(worker, admin.email) for _ in range(5) for worker in (client, other)]

            locked = [await log_in(worker, admin) for worker in (client, other)]

        assert [answer.status_code for answer in answers] == [401] * 10
        assert [answer.status_code for answer in locked] == [429] * 2

    async def test_outlives_a_restart(self, settings: UserSettings) -> None:
        async with open_app(create_app(SERVICE, settings)) as client:
            admin = await register(client)
            for _ in range(10):
                await guess(client, admin.email)
        async with open_app(create_app(SERVICE, settings)) as client:
            assert (await log_in(client, admin)).status_code == 429

    async def test_forty_times_at_once_tells_no_more_than_ten_answers(
        self, roomy: httpx.AsyncClient, admin_of_roomy: Admin, database_of_roomy: sqlite3.Connection
    ) -> None:
        answers = await asyncio.gather(*(guess(roomy, admin_of_roomy.email) for _ in range(40)))

        assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 30
        assert (await log_in(roomy, admin_of_roomy)).status_code == 429
        await until_tasks_are_done(database_of_roomy)
        assert len(notices(database_of_roomy, "account_locked")) == 1

    async def test_leaves_other_accounts_alone(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")

        await lock(client, admin.email, database)

        assert (await log_in(client, other)).status_code == 200


class TestLock:
    async def test_ends_by_itself(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await lock(client, admin.email, database)
        database.execute("UPDATE attempts SET locked_until_ms = ?", (epoch_ms(),))

        assert (await log_in(client, admin)).status_code == 200

    async def test_lasts_twice_as_long_the_next_time(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await lock(client, admin.email, database)
        database.execute("UPDATE attempts SET locked_until_ms = ?", (epoch_ms(),))
        fail_before(database, 19)
        await guess(client, admin.email)

        response = await log_in(client, admin)

        assert 3590 <= int(response.headers["Retry-After"]) <= 3600

    async def test_is_told_to_the_owner_and_recorded_once(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await lock(client, admin.email, database)
        await guess(client, admin.email)

        (notice,) = await until_notices(database, "account_locked", 1)
        (event,) = events(database, "account.locked")
        assert notice["recipients"] == [admin.email]
        assert notice["institution_id"] == admin.institution_id
        assert event["actor"] == {"kind": "anonymous", "id": None}
        assert event["subject"] == {"kind": "user", "id": admin.user_id}

    async def test_of_an_address_without_an_account_is_told_to_nobody(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await lock(client, "nobody@harbour.example", database)

        await until_tasks_are_done(database)
        assert notices(database, "account_locked") == []
        assert events(database, "account.locked") == []

    async def test_keeps_no_address_of_whoever_tried(
        self, client: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        await guess(client, "nobody@harbour.example")

        dump = "\n".join(database.iterdump())
        assert database.execute("SELECT count(*) FROM attempts").fetchone() == (2,)
        assert "nobody@" not in dump
        assert "127.0.0.1" not in dump


class TestOneAddress:
    async def test_is_locked_after_a_hundred_failures_at_any_accounts(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await guess(client, "nobody@harbour.example")
        database.execute("UPDATE attempts SET failures = 99")

        await guess(client, "somebody@harbour.example")

        locked = await log_in(client, admin)
        assert problem_type(locked) == "too-many-attempts"
        assert 1790 <= int(locked.headers["Retry-After"]) <= 1800

    async def test_does_not_lock_others(
        self, settings: UserSettings, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await guess(client, "nobody@harbour.example")
        database.execute("UPDATE attempts SET failures = 99")
        await guess(client, "somebody@harbour.example")

        elsewhere = httpx.ASGITransport(app=client._transport.app, client=("203.0.113.9", 1))  # type: ignore[attr-defined]
        async with httpx.AsyncClient(transport=elsewhere, base_url="http://testserver") as other:
            response = await log_in(other, admin)

        assert response.status_code == 200

    async def test_is_not_forgiven_for_an_account_of_its_own(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await guess(client, "nobody@harbour.example")
        database.execute("UPDATE attempts SET failures = 99")
        await log_in(client, admin)

        await guess(client, "somebody@harbour.example")

        assert (await log_in(client, admin)).status_code == 429


class TestGuessingWhatElse:
    async def test_current_passwords_lock_the_account(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        async def try_(password: str) -> httpx.Response:
            body = {"password": NEW_PASSWORD, "current_password": password}
            return await client.patch("/v1/users/me", headers=admin.headers, json=body)

        first = await try_(WRONG)
        fail_before(database, 9)
        tenth = await try_(WRONG)
        right = await try_(PASSWORD)

        assert [first.status_code, tenth.status_code, right.status_code] == [403, 403, 429]
        assert (await log_in(client, admin)).status_code == 429

    async def test_codes_at_the_login_lock_the_account(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)

        async def try_(code: str) -> httpx.Response:
            body = {"email": admin.email, "password": PASSWORD, "code": code}
            return await client.post("/v1/auth/login", json=body)

        first = await try_("000000x")
        fail_before(database, 9)
        tenth = await try_("000000x")
        right = await try_(code_of(secret))

        assert problem_type(first) == problem_type(tenth) == "invalid-code"
        assert right.status_code == 429

    async def test_the_right_password_without_a_code_forgives_no_wrong_codes(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await add_second_factor(client, admin, database)
        await client.post(
            "/v1/auth/login", json={"email": admin.email, "password": PASSWORD, "code": "000000x"}
        )
        fail_before(database, 9)

        await log_in(client, admin)

        assert {row[0] for row in database.execute("SELECT failures FROM attempts")} == {9}

    @pytest.mark.parametrize("path", ["confirm", ""])
    async def test_codes_of_somebody_logged_in_lock_the_account(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, path: str
    ) -> None:
        if path:
            await client.post(
                "/v1/users/me/second-factor", headers=admin.headers, json={"current_password": PASSWORD}
            )
            method, body = "POST", {"code": "000000x"}
        else:
            await add_second_factor(client, admin, database)
            method, body = "DELETE", {"code": "000000x", "current_password": PASSWORD}

        async def try_() -> httpx.Response:
            url = f"/v1/users/me/second-factor/{path}".rstrip("/")
            return await client.request(method, url, headers=admin.headers, json=body)

        first = await try_()
        fail_before(database, 9)
        tenth = await try_()
        locked = await try_()

        assert problem_type(first) == problem_type(tenth) == "wrong-code"
        assert locked.status_code == 429

    @pytest.mark.parametrize("path", ["invitations/accept", "password-resets/confirm"])
    async def test_mailed_tokens_lock_the_address(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, path: str
    ) -> None:
        async def try_() -> httpx.Response:
            body = {"token": "mtk_1.0", "password": NEW_PASSWORD}
            return await client.post(f"/v1/auth/{path}", json=body)

        first = await try_()
        database.execute("UPDATE attempts SET failures = 99")
        hundredth = await try_()
        locked = await try_()

        assert problem_type(first) == problem_type(hundredth) == "invalid-mailed-token"
        assert problem_type(locked) == "too-many-attempts"
        assert (await accept(client, "mtk_1.0")).status_code == 429


class TestCleaning:
    async def test_forgets_what_counts_no_more_and_nothing_else(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        now = epoch_ms()
        rows: list[tuple[str, int, int, int]] = [
            ("old", 9, now - 30 * MINUTE_MS, 0),
            ("new", 9, now - 29 * MINUTE_MS, 0),
            ("locked", 10, now - 90 * MINUTE_MS, now + 1),
            ("remembered", 10, now - 90 * MINUTE_MS, now - 23 * 60 * MINUTE_MS),
            ("forgotten", 10, now - 90 * MINUTE_MS, now - 24 * 60 * MINUTE_MS),
        ]
        database.executemany("INSERT INTO attempts VALUES (?, ?, ?, ?)", rows)

        await tasks.forget_old(now_ms=now)

        left = {row[0] for row in database.execute("SELECT key FROM attempts")}
        assert left == {"new", "locked", "remembered"}

    async def test_forgets_mailed_tokens_a_day_after_they_expired(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        now = epoch_ms()
        rows: list[tuple[Any, ...]] = [
            ("mtk_kept", admin.user_id, "invitation", 1, now - 23 * 60 * MINUTE_MS),
            ("mtk_gone", admin.user_id, "invitation", 1, now - 25 * 60 * MINUTE_MS),
        ]
        database.executemany("INSERT INTO mailed_tokens VALUES (?, ?, ?, ?, ?, NULL)", rows)

        await tasks.forget_old(now_ms=now)

        assert database.execute("SELECT token_id FROM mailed_tokens").fetchall() == [("mtk_kept",)]
