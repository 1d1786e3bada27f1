"""Guessing codes with the right password: remembered for a week, locked, told and recorded.

`owner` has registered at 127.0.0.1, so their account is known there; the thief, who has the password, is somewhere else.
"""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from common.clock import epoch_ms
from tests.api.user_service.conftest import PASSWORD, Admin, problem_type, refresh
from tests.api.user_service.people import (
    MINUTE_MS,
    NEW_PASSWORD,
    add_second_factor,
    asked_reset,
    at,
    code_of,
    events,
    notices,
    until_notices,
    until_tasks_are_done,
    wait_out,
)
from user_service.account_work.service import AccountTasks
from user_service.times import DAY_MS

WRONG_CODE = "000000x"


@dataclass(frozen=True)
class Owner:
    """Somebody with a second factor."""

    account: Admin
    secret: str

    async def log_in(self, client: httpx.AsyncClient, *, password: str = PASSWORD) -> httpx.Response:
        return await show(client, self, code_of(self.secret), password=password)


@pytest.fixture
async def owner(client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection) -> Owner:
    secret, _ = await add_second_factor(client, admin, database)
    return Owner(admin, secret)


@pytest.fixture
async def thief(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who knows the password, at an address where nobody has ever logged in."""
    async with at(client, "203.0.113.9") as opened:
        yield opened


async def show(
    client: httpx.AsyncClient, owner: Owner, code: str, *, password: str = PASSWORD
) -> httpx.Response:
    body = {"email": owner.account.email, "password": password, "code": code}
    return await client.post("/v1/auth/login", json=body)


async def guess(
    client: httpx.AsyncClient, owner: Owner, database: sqlite3.Connection, *, times: int
) -> list[int]:
    """Show so many wrong codes with the right password, and wait after each as long as it takes."""
    answers = []
    for _ in range(times):
        answers.append((await show(client, owner, WRONG_CODE)).status_code)
        await until_tasks_are_done(database)  # they write too
        wait_out(database)
    return answers


async def pass_time(database: sqlite3.Connection, tasks: AccountTasks, passed_ms: int) -> None:
    """Let what was counted become older, and what counts no more be forgotten."""
    database.execute(
        "UPDATE attempts SET first_at_ms = first_at_ms - :ms, on_account_since_ms = on_account_since_ms - :ms,"
        " locked_until_ms = max(locked_until_ms - :ms, 0)",
        {"ms": passed_ms},
    )
    await tasks.forget_old(now_ms=epoch_ms())


class TestGuessingCodesAtTheLogin:
    async def test_nine_times_every_half_hour_locks_at_the_tenth(
        self, owner: Owner, thief: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        before = await guess(thief, owner, database, times=9)
        await pass_time(database, tasks, 31 * MINUTE_MS)

        after = await guess(thief, owner, database, times=2)

        assert before + after == [401] * 10 + [429]
        assert problem_type(await owner.log_in(thief)) == "too-many-attempts"

    async def test_from_ten_addresses_locks_as_well(
        self, client: httpx.AsyncClient, owner: Owner, database: sqlite3.Connection
    ) -> None:
        answers = []
        for number in range(11):
            async with at(client, f"203.0.113.{number}") as somewhere:
                answers += await guess(somewhere, owner, database, times=1)

        assert answers == [401] * 10 + [429]

    async def test_is_forgotten_after_a_week(
        self, owner: Owner, thief: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        await guess(thief, owner, database, times=9)
        await pass_time(database, tasks, 7 * DAY_MS - MINUTE_MS)
        kept = database.execute("SELECT failures FROM attempts").fetchall()

        await pass_time(database, tasks, MINUTE_MS)

        assert kept == [(9,), (9,)]  # over all addresses, and there
        assert database.execute("SELECT failures FROM attempts").fetchall() == []

    async def test_locks_twice_as_long_within_the_week_after_a_lock(
        self, owner: Owner, thief: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        await guess(thief, owner, database, times=10)
        await pass_time(database, tasks, 6 * DAY_MS)

        again = await guess(thief, owner, database, times=10)

        assert again == [401] * 10
        assert 3500 <= int((await owner.log_in(thief)).headers["Retry-After"]) <= 3600

    async def test_is_told_to_the_owner_and_recorded(
        self, owner: Owner, thief: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        await guess(thief, owner, database, times=10)

        (notice,) = await until_notices(database, "account_locked", 1)
        (event,) = events(database, "account.locked")
        assert notice["recipients"] == [owner.account.email]
        assert notice["facts"]["password_was_right"] == "yes"
        assert notice["facts"]["last_address"] == "203.0.113.9"
        assert event["subject"] == {"kind": "user", "id": owner.account.user_id}
        assert event["details"]["password_was_right"] is True
        assert event["details"]["failures"] == 10

    async def test_keeps_the_owner_out_nowhere_where_they_have_logged_in(
        self,
        client: httpx.AsyncClient,
        owner: Owner,
        thief: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess(thief, owner, database, times=10)

        assert (await owner.log_in(client)).status_code == 200

    async def test_at_a_known_address_is_bounded_as_well(
        self, client: httpx.AsyncClient, owner: Owner, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        before = await guess(client, owner, database, times=9)
        await pass_time(database, tasks, 31 * MINUTE_MS)

        after = await guess(client, owner, database, times=2)

        (notice,) = await until_notices(database, "account_locked", 1)
        assert before + after == [401] * 10 + [429]
        assert notice["facts"]["locked_at"] == "from 127.0.0.1"

    async def test_is_forgiven_without_a_mail_to_whoever_gets_in_there(
        self, client: httpx.AsyncClient, owner: Owner, database: sqlite3.Connection
    ) -> None:
        mistyped = await guess(client, owner, database, times=9)

        opened = await owner.log_in(client)

        assert (mistyped, opened.status_code) == ([401] * 9, 200)
        assert database.execute("SELECT failures FROM attempts").fetchall() == [(9,)]  # of the address
        assert notices(database, "account_locked") == []

    async def test_elsewhere_is_not_forgiven_because_the_owner_logs_in(
        self,
        client: httpx.AsyncClient,
        owner: Owner,
        thief: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess(thief, owner, database, times=9)
        await owner.log_in(client)

        assert await guess(thief, owner, database, times=2) == [401, 429]

    async def test_is_counted_for_nobody_who_does_not_know_the_password(
        self, owner: Owner, thief: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        for _ in range(9):
            await show(thief, owner, WRONG_CODE, password="not-the-password-1")
            wait_out(database)

        await pass_time(database, tasks, 31 * MINUTE_MS)

        assert database.execute("SELECT key FROM attempts").fetchall() == []

    async def test_is_over_with_a_new_password(
        self,
        client: httpx.AsyncClient,
        owner: Owner,
        thief: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess(thief, owner, database, times=10)
        token = await asked_reset(client, owner.account.email, database)

        body = {"token": token, "password": NEW_PASSWORD}
        await client.post("/v1/auth/password-resets/confirm", json=body)

        assert (await owner.log_in(thief, password=NEW_PASSWORD)).status_code == 200


class TestGuessingCodesInASession:
    async def test_nine_times_every_half_hour_ends_it_at_the_tenth(
        self, client: httpx.AsyncClient, owner: Owner, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        async def try_() -> int:
            body = {"code": WRONG_CODE, "current_password": PASSWORD}
            answer = await client.post(
                "/v1/users/me/second-factor/remove", headers=owner.account.headers, json=body
            )
            wait_out(database)
            return answer.status_code

        before = [await try_() for _ in range(9)]
        await pass_time(database, tasks, 31 * MINUTE_MS)
        tenth = await try_()

        assert [*before, tenth] == [403] * 10
        assert (await refresh(client, owner.account.refresh_token)).status_code == 401
