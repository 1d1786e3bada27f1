"""Guessing: bounded for each account and each address, the same whether the account exists or not.

`admin` has registered at 127.0.0.1, so their account is known there; strangers are somewhere else.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from common.app import create_app
from common.clock import epoch_ms
from tests.api.user_service.conftest import PASSWORD, Admin, log_in, problem_type, refresh, register
from tests.api.user_service.people import (
    MINUTE_MS,
    NEW_PASSWORD,
    accept,
    add_second_factor,
    asked_reset,
    at,
    code_of,
    events,
    executed_statements,
    fail_before,
    file_of,
    invite,
    notices,
    session_ids,
    told_sessions,
    until_notices,
    until_tasks_are_done,
    wait_out,
    with_tokens,
)
from tests.asgi import open_app_apart
from user_service.account_work.service import AccountTasks
from user_service.attempts.policy import CODE_WINDOW_MS, KNOWN_MS, WINDOW_MS
from user_service.attempts.repository import forget_tallies_beyond
from user_service.main import SERVICE
from user_service.settings import UserSettings
from user_service.times import DAY_MS

WRONG = "not-the-password-1"
STRANGE = "203.0.113.9"


async def guess(client: httpx.AsyncClient, email: str, password: str = WRONG) -> httpx.Response:
    return await client.post("/v1/auth/login", json={"email": email, "password": password})


async def guess_patiently(
    client: httpx.AsyncClient, email: str, database: sqlite3.Connection, *, times: int
) -> list[httpx.Response]:
    """Guess so often, and wait after each as long as it takes."""
    answers = []
    for _ in range(times):
        answers.append(await guess(client, email))
        await until_tasks_are_done(database)  # they write too
        wait_out(database)
    return answers


async def lock(client: httpx.AsyncClient, email: str, database: sqlite3.Connection) -> None:
    """Let the tenth guess fail."""
    await guess(client, email)
    fail_before(database, 9)
    assert (await guess(client, email)).status_code == 401
    await until_tasks_are_done(database)  # they write too, as tests do after this


def failures_at_an_account(database: sqlite3.Connection) -> int:
    """Return how many failures count for the account, over all addresses."""
    ((failures,),) = database.execute("SELECT failures FROM attempts WHERE key = account").fetchall()
    return int(failures)


async def lock_address(client: httpx.AsyncClient, database: sqlite3.Connection) -> None:
    """Let the hundredth guess from the client's address fail, at any accounts."""
    await guess(client, "nobody@harbour.example")
    fail_before(database, 99)
    assert (await guess(client, "somebody@harbour.example")).status_code == 401
    wait_out(database)


def to_time(written: str) -> int:
    """Return the minute that a mail says, which has its zone, in ms."""
    parsed = datetime.strptime(written, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    return int(parsed.timestamp() * 1000)


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
async def stranger(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody at an address where nobody has ever logged in."""
    async with at(client, STRANGE) as opened:
        yield opened


class TestGuessingAPassword:
    async def test_ten_times_locks_for_half_an_hour(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        answers = await guess_patiently(client, admin.email, database, times=10)

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
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        answers = [
            await guess_patiently(client, email, database, times=12)
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
        self, client: httpx.AsyncClient, admin: Admin, settings: UserSettings, database: sqlite3.Connection
    ) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as other:
            answers = []
            for worker in [client, other] * 5:
                answers += await guess_patiently(worker, admin.email, database, times=1)

            locked = [await log_in(worker, admin) for worker in (client, other)]

        assert [answer.status_code for answer in answers] == [401] * 10
        assert [answer.status_code for answer in locked] == [429] * 2

    async def test_outlives_a_restart(self, settings: UserSettings) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            admin = await register(client)
            with closing(sqlite3.connect(file_of(settings), isolation_level=None)) as database:
                await guess_patiently(client, admin.email, database, times=10)
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            assert (await log_in(client, admin)).status_code == 429

    async def test_forty_times_at_once_tells_no_more_than_six_answers(
        self, roomy: httpx.AsyncClient, admin_of_roomy: Admin
    ) -> None:
        answers = await asyncio.gather(*(guess(roomy, admin_of_roomy.email) for _ in range(40)))

        assert sorted(answer.status_code for answer in answers) == [401] * 6 + [429] * 34

    async def test_forty_times_at_once_locks_once(
        self, roomy: httpx.AsyncClient, admin_of_roomy: Admin, database_of_roomy: sqlite3.Connection
    ) -> None:
        await guess(roomy, admin_of_roomy.email)
        fail_before(database_of_roomy, 8)

        answers = await asyncio.gather(*(guess(roomy, admin_of_roomy.email) for _ in range(40)))

        assert sorted(answer.status_code for answer in answers) == [401] * 2 + [429] * 38
        assert (await log_in(roomy, admin_of_roomy)).status_code == 429
        await until_tasks_are_done(database_of_roomy)
        assert len(notices(database_of_roomy, "account_locked")) == 1

    async def test_leaves_other_accounts_alone(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")

        await lock(client, admin.email, database)

        assert (await log_in(client, other)).status_code == 200


class TestGuessingFast:
    async def test_makes_wait_after_the_sixth_within_a_minute_whether_the_account_exists_or_not(
        self, client: httpx.AsyncClient, admin: Admin, stranger: httpx.AsyncClient
    ) -> None:
        async with at(client, "203.0.113.10") as another_stranger:
            answers = [
                [await guess(caller, email) for _ in range(8)]
                for caller, email in (
                    (client, admin.email),
                    (stranger, admin.email),
                    (another_stranger, "nobody@harbour.example"),
                )
            ]

        assert [answer.status_code for answer in answers[0]] == [401] * 6 + [429] * 2
        # the account has been counted too, over all addresses: the first of strangers waits for the guesses at home
        assert {answer.status_code for answer in answers[1]} == {429}
        assert [answer.status_code for answer in answers[2]] == [401] * 6 + [429] * 2
        refused = [answers[0][6], answers[1][0], answers[2][6]]
        assert same(refused)
        assert problem_type(refused[0]) == "too-many-attempts"
        assert all(1 <= int(answer.headers["Retry-After"]) <= 5 for answer in refused)

    async def test_spends_no_password_check_while_it_waits(
        self, stranger: httpx.AsyncClient, checks: list[str]
    ) -> None:
        for number in range(10):
            await guess(stranger, f"nobody{number}@harbour.example")

        assert len(checks) == 6

    async def test_counts_nothing_while_it_waits(
        self, stranger: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        for number in range(10):
            await guess(stranger, f"nobody{number}@harbour.example")

        assert database.execute("SELECT max(failures) FROM attempts").fetchone() == (6,)

    async def test_goes_on_after_the_wait_and_waits_longer(
        self, stranger: httpx.AsyncClient, database: sqlite3.Connection
    ) -> None:
        for number in range(6):
            await guess(stranger, f"nobody{number}@harbour.example")
        database.execute("UPDATE attempts SET waits_until_ms = 0")  # 5 s later, all but

        again = await guess(stranger, "somebody@harbour.example")
        refused = await guess(stranger, "somebody@harbour.example")

        assert again.status_code == 401
        assert 6 <= int(refused.headers["Retry-After"]) <= 10

    async def test_makes_nobody_wait_at_another_address(
        self, client: httpx.AsyncClient, stranger: httpx.AsyncClient
    ) -> None:
        for number in range(7):
            await guess(stranger, f"nobody{number}@harbour.example")

        assert (await guess(client, "somebody@harbour.example")).status_code == 401


class TestStrangers:
    async def test_lock_an_account_for_each_other_wherever_they_are(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        answers = []
        for number in range(12):
            async with at(client, f"203.0.113.{number}") as somewhere:
                answers += await guess_patiently(somewhere, admin.email, database, times=1)

        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2

    async def test_do_not_lock_the_owner_out_where_they_have_logged_in(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock(stranger, admin.email, database)

        assert (await log_in(stranger, admin)).status_code == 429
        assert (await log_in(client, admin)).status_code == 200

    async def test_are_not_forgiven_because_the_owner_logs_in(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess(stranger, admin.email)
        fail_before(database, 9)
        await guess(client, admin.email, WRONG)  # the tenth of the account: strangers are locked out
        await log_in(client, admin)

        assert (await log_in(stranger, admin)).status_code == 429

    async def test_keep_what_they_failed_when_the_owner_is_forgiven_their_own(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess_patiently(stranger, admin.email, database, times=4)
        await guess_patiently(client, admin.email, database, times=3)

        await log_in(client, admin)

        left = database.execute("SELECT failures FROM attempts ORDER BY failures").fetchall()
        assert left == [(3,), (4,), (4,), (4,)]  # of the address at home, and three of the stranger's

    async def test_keep_what_they_failed_when_the_owner_mistypes_during_the_lock(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess_patiently(client, admin.email, database, times=1)
        await guess_patiently(stranger, admin.email, database, times=9)  # the last is the tenth: it locks
        await guess_patiently(client, admin.email, database, times=4)

        await log_in(client, admin)

        assert failures_at_an_account(database) == 9

    async def test_keep_what_they_failed_when_what_the_owner_mistyped_before_counts_no_more(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess_patiently(client, admin.email, database, times=2)
        database.execute(
            "UPDATE attempts SET first_at_ms = first_at_ms - ? WHERE key = account", (31 * MINUTE_MS,)
        )
        await guess(stranger, admin.email)

        await log_in(client, admin)

        assert failures_at_an_account(database) == 1

    async def test_keep_the_owner_out_of_nothing_in_their_sessions(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock(stranger, admin.email, database)
        body = {"password": NEW_PASSWORD, "current_password": PASSWORD}

        async with at(client, STRANGE) as owner_far_away:
            changed = await owner_far_away.patch("/v1/users/me", headers=admin.headers, json=body)

        assert changed.status_code == 200

    async def test_at_the_owners_address_do_not_lock_them_out_through_others_accounts(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await lock_address(client, database)

        assert problem_type(await guess(client, "nobody@elsewhere.example")) == "too-many-attempts"
        assert (await log_in(client, admin)).status_code == 200

    async def test_at_the_owners_address_do_not_make_them_wait(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        for number in range(7):
            await guess(client, f"nobody{number}@harbour.example")

        assert (await log_in(client, admin)).status_code == 200

    async def test_come_by_ten_guesses_at_a_known_address_too(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        answers = await guess_patiently(client, admin.email, database, times=12)

        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2


class TestKnownAddress:
    async def test_is_one_where_somebody_logged_in_with_everything_that_it_takes(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        assert (await log_in(stranger, admin)).status_code == 200
        await lock(client, admin.email, database)

        assert (await log_in(stranger, admin)).status_code == 200

    async def test_is_none_where_the_second_factor_was_missing(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await add_second_factor(client, admin, database)
        assert problem_type(await log_in(stranger, admin)) == "second-factor-needed"

        await lock(client, admin.email, database)

        assert (await log_in(stranger, admin)).status_code == 429

    async def test_is_the_network_that_an_ipv6_subscriber_has(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        async with at(client, "2001:db8:1:2::1") as yesterday, at(client, "2001:db8:1:2::ffff") as today:
            await log_in(yesterday, admin)
            await lock(client, admin.email, database)

            assert (await log_in(today, admin)).status_code == 200

    async def test_is_forgotten_thirty_days_after_the_last_login_there(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock(stranger, admin.email, database)
        database.execute("UPDATE known_addresses SET seen_at_ms = ?", (epoch_ms() - KNOWN_MS,))

        assert (await log_in(client, admin)).status_code == 429

    async def test_stays_known_with_every_login(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        database.execute("UPDATE known_addresses SET seen_at_ms = ?", (epoch_ms() - KNOWN_MS + MINUTE_MS,))
        await log_in(client, admin)

        ((seen_at_ms,),) = database.execute("SELECT seen_at_ms FROM known_addresses").fetchall()
        assert seen_at_ms > epoch_ms() - MINUTE_MS

    async def test_outlives_a_restart(self, settings: UserSettings) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            admin = await register(client)
        with closing(sqlite3.connect(file_of(settings), isolation_level=None)) as database:
            async with (
                open_app_apart(create_app(SERVICE, settings)) as client,
                at(client, STRANGE) as stranger,
            ):
                await lock(stranger, admin.email, database)

                assert (await log_in(client, admin)).status_code == 200

    async def test_is_one_of_the_twenty_newest_of_its_account(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = await register(client, email="eve@elsewhere.example")
        database.execute("UPDATE known_addresses SET seen_at_ms = 1")
        (account,) = database.execute("SELECT account FROM known_addresses ORDER BY rowid").fetchone()
        rows = [(f"key-{number}", account, 2 + number) for number in range(19)]
        database.executemany("INSERT INTO known_addresses VALUES (?, ?, ?)", rows)

        async with at(client, STRANGE) as somewhere_new:
            await log_in(somewhere_new, admin)

        kept = database.execute(
            "SELECT account, min(seen_at_ms), count(*) FROM known_addresses GROUP BY account"
        )
        assert sorted((count, oldest) for _, oldest, count in kept) == [(1, 1), (20, 2)]
        assert other.user_id != admin.user_id

    async def test_is_kept_as_a_digest(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        ((key, account),) = database.execute("SELECT key, account FROM known_addresses").fetchall()

        assert re.fullmatch("[0-9a-f]{64}", key)
        assert re.fullmatch("[0-9a-f]{64}", account)
        assert key != account


class TestResettingThePassword:
    async def test_opens_the_account_where_the_owner_is_at_once_and_for_good(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock(stranger, admin.email, database)
        token = await asked_reset(client, admin.email, database)
        async with at(client, "198.51.100.7") as owner:
            assert (await log_in(owner, admin)).status_code == 429

            body = {"token": token, "password": NEW_PASSWORD}
            reset = await owner.post("/v1/auth/password-resets/confirm", json=body)
            opened = await log_in(owner, admin, password=NEW_PASSWORD)
            await lock(stranger, admin.email, database)
            still_open = await log_in(owner, admin, password=NEW_PASSWORD)

        assert [answer.status_code for answer in (reset, opened, still_open)] == [204, 200, 200]

    async def test_opens_it_where_it_was_known_and_locked(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock(client, admin.email, database)
        assert (await log_in(client, admin)).status_code == 429
        token = await asked_reset(client, admin.email, database)

        body = {"token": token, "password": NEW_PASSWORD}
        await stranger.post("/v1/auth/password-resets/confirm", json=body)

        assert (await log_in(client, admin, password=NEW_PASSWORD)).status_code == 200

    async def test_works_where_others_have_locked_the_address(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock_address(stranger, database)
        token = await asked_reset(client, admin.email, database)
        assert (await log_in(stranger, admin)).status_code == 429

        body = {"token": token, "password": NEW_PASSWORD}
        reset = await stranger.post("/v1/auth/password-resets/confirm", json=body)

        assert reset.status_code == 204
        assert (await log_in(stranger, admin, password=NEW_PASSWORD)).status_code == 200


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

    async def test_is_told_to_the_owner_and_recorded_once_with_the_request_that_caused_it(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await guess(client, admin.email)
        fail_before(database, 9)
        tenth = await guess(client, admin.email)
        await guess(client, admin.email)

        (notice,) = await until_notices(database, "account_locked", 1)
        (event,) = events(database, "account.locked")
        assert notice["recipients"] == [admin.email]
        assert notice["institution_id"] == admin.institution_id
        assert event["actor"] == {"kind": "anonymous", "id": None}
        assert event["subject"] == {"kind": "user", "id": admin.user_id}
        assert event["request_id"] == tenth.headers["X-Request-ID"] != ""

    async def test_says_in_the_mail_until_when_where_and_why(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        async with at(client, "2001:db8:1:2:3:4:5:6") as stranger:
            await lock(stranger, admin.email, database)
        await until_notices(database, "account_locked", 1)
        await lock(client, admin.email, database)

        at_strange, at_home = [
            {**notice["facts"], "locked_until": to_time(notice["facts"]["locked_until"])}
            for notice in await until_notices(database, "account_locked", 2)
        ]
        untils = {
            row[0]
            for row in database.execute("SELECT locked_until_ms FROM attempts WHERE locked_until_ms > 0")
        }
        common = {"institution_name": "Harbour Payments", "institution_mode": "sandbox", "failures": "10"}
        assert at_strange == {
            **common,
            "locked_until": at_strange["locked_until"],
            "locked_at": "from addresses that you have not logged in from in the last 30 days",
            "last_address": "2001:db8:1:2::/64",
        }
        assert at_home == {
            **common,
            "locked_until": at_home["locked_until"],
            "locked_at": "from 127.0.0.1",
            "last_address": "127.0.0.1",
        }
        for told in (at_strange, at_home):
            assert any(0 <= told["locked_until"] - until_ms < MINUTE_MS for until_ms in untils)

    async def test_is_recorded_without_addresses(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock(stranger, admin.email, database)
        await until_notices(database, "account_locked", 1)

        (event,) = events(database, "account.locked")
        locked_until = datetime.fromisoformat(event["details"].pop("locked_until"))
        assert event["details"] == {"failures": 10, "at_known_address": False, "password_was_right": False}
        assert locked_until.utcoffset() == timedelta(0)
        assert STRANGE not in str(event)

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
        assert database.execute("SELECT count(*) FROM attempts").fetchone() == (3,)
        assert "nobody@" not in dump
        assert "127.0.0.1" not in dump


class TestOneAddress:
    async def test_is_locked_after_a_hundred_failures_at_any_accounts(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock_address(stranger, database)

        locked = await log_in(stranger, admin)
        assert problem_type(locked) == "too-many-attempts"
        assert 1790 <= int(locked.headers["Retry-After"]) <= 1800

    async def test_does_not_lock_others(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await lock_address(client, database)

        assert (await log_in(stranger, admin)).status_code == 200

    async def test_is_not_forgiven_for_an_account_of_its_own(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        await guess(stranger, "nobody@harbour.example")
        fail_before(database, 99)
        wait_out(database)
        assert (await log_in(stranger, admin)).status_code == 200

        await guess(stranger, "somebody@harbour.example")

        assert problem_type(await guess(stranger, "nobody@elsewhere.example")) == "too-many-attempts"


class TestGuessingWhatElse:
    async def test_current_passwords_ends_the_session_and_nothing_else(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        other = with_tokens(admin, await log_in(client, admin))

        async def try_(session: Admin, password: str) -> httpx.Response:
            body = {"password": NEW_PASSWORD, "current_password": password}
            return await client.patch("/v1/users/me", headers=session.headers, json=body)

        first = await try_(admin, WRONG)
        fail_before(database, 9)
        tenth = await try_(admin, WRONG)

        assert [problem_type(answer) for answer in (first, tenth)] == ["wrong-current-password"] * 2
        assert (await try_(admin, PASSWORD)).status_code == 401
        assert (await refresh(client, admin.refresh_token)).status_code == 401
        assert (await log_in(client, admin)).status_code == 200
        assert (await try_(other, PASSWORD)).status_code == 200

    async def test_that_ends_a_session_is_told_and_recorded(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        body = {"password": NEW_PASSWORD, "current_password": WRONG}
        await client.patch("/v1/users/me", headers=admin.headers, json=body)
        fail_before(database, 9)
        (session_id,) = session_ids(database, admin.user_id)

        tenth = await client.patch("/v1/users/me", headers=admin.headers, json=body)

        (ended,) = events(database, "session.ended")
        (notice,) = notices(database, "security_change")
        assert ended["subject"] == {"kind": "session", "id": session_id}
        assert ended["details"]["reason"] == "too_many_attempts"
        assert ended["request_id"] == tenth.headers["X-Request-ID"]
        assert told_sessions(database) == {session_id}
        assert notice["facts"]["change"].startswith("a session was ended because ten wrong")

    async def test_in_a_session_makes_wait_after_the_sixth_within_a_minute(
        self, client: httpx.AsyncClient, admin: Admin, checks: list[str]
    ) -> None:
        body = {"password": NEW_PASSWORD, "current_password": WRONG}

        answers = [await client.patch("/v1/users/me", headers=admin.headers, json=body) for _ in range(8)]

        assert [answer.status_code for answer in answers] == [403] * 6 + [429] * 2
        assert len(checks) == 6

    async def test_in_a_session_locks_nobody_out_of_logging_in(
        self,
        client: httpx.AsyncClient,
        admin: Admin,
        stranger: httpx.AsyncClient,
        database: sqlite3.Connection,
    ) -> None:
        body = {"password": NEW_PASSWORD, "current_password": WRONG}
        await client.patch("/v1/users/me", headers=admin.headers, json=body)
        fail_before(database, 9)
        await client.patch("/v1/users/me", headers=admin.headers, json=body)

        assert (await log_in(stranger, admin)).status_code == 200

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

    @pytest.mark.parametrize("path", ["confirm", "remove"])
    async def test_codes_of_somebody_logged_in_ends_their_session(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, path: str
    ) -> None:
        if path == "confirm":
            await client.post(
                "/v1/users/me/second-factor", headers=admin.headers, json={"current_password": PASSWORD}
            )
            body = {"code": "000000x"}
        else:
            await add_second_factor(client, admin, database)
            body = {"code": "000000x", "current_password": PASSWORD}

        async def try_() -> httpx.Response:
            url = f"/v1/users/me/second-factor/{path}"
            return await client.post(url, headers=admin.headers, json=body)

        first = await try_()
        fail_before(database, 9)
        tenth = await try_()
        ended = await try_()

        assert problem_type(first) == problem_type(tenth) == "invalid-code"
        assert ended.status_code == 401

    @pytest.mark.parametrize("path", ["invitations/accept", "password-resets/confirm"])
    async def test_mailed_tokens_lock_the_address(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, path: str
    ) -> None:
        async def try_() -> httpx.Response:
            body = {"token": "mtk_1.0", "password": NEW_PASSWORD}
            return await client.post(f"/v1/auth/{path}", json=body)

        first = await try_()
        fail_before(database, 99)
        hundredth = await try_()
        locked = await try_()

        assert problem_type(first) == problem_type(hundredth) == "invalid-mailed-token"
        assert problem_type(locked) == "too-many-attempts"
        assert (await accept(client, "mtk_1.0")).status_code == 429


def add_tallies(
    database: sqlite3.Connection, rows: list[tuple[str, int, int, int]], *, window_ms: int = WINDOW_MS
) -> None:
    """Add what has a key, failures, a first one and a lock."""
    database.executemany(
        f"INSERT INTO attempts VALUES (?, NULL, ?, ?, ?, 0, 0, 0, 0, {window_ms})",  # noqa: S608 - a number
        rows,
    )


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
        add_tallies(database, rows)

        await tasks.forget_old(now_ms=now)

        left = {row[0] for row in database.execute("SELECT key FROM attempts")}
        assert left == {"new", "locked", "remembered"}

    async def test_remembers_codes_for_a_week(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        now = epoch_ms()
        rows: list[tuple[str, int, int, int]] = [
            ("old", 9, now - 7 * DAY_MS, 0),
            ("new", 9, now - 7 * DAY_MS + 1, 0),
            ("remembered", 10, now - 9 * DAY_MS, now - 7 * DAY_MS + 1),
            ("forgotten", 10, now - 9 * DAY_MS, now - 7 * DAY_MS),
        ]
        add_tallies(database, rows, window_ms=CODE_WINDOW_MS)

        await tasks.forget_old(now_ms=now)

        left = {row[0] for row in database.execute("SELECT key FROM attempts")}
        assert left == {"new", "remembered"}

    async def test_keeps_codes_when_strangers_fill_the_table(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        now = epoch_ms()
        add_tallies(database, [("code", 9, now - DAY_MS, 0)], window_ms=CODE_WINDOW_MS)
        add_tallies(database, [("stranger", 1, now - 1, 0), ("another", 1, now, 0)])

        async with tasks.database.sessions.begin() as session:
            await forget_tallies_beyond(session, 1)

        assert database.execute("SELECT key FROM attempts").fetchall() == [("code",)]

    async def test_forgets_addresses_that_are_known_no_more(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        now = epoch_ms()
        rows = [("kept", "account", now - KNOWN_MS + 1), ("gone", "account", now - KNOWN_MS)]
        database.executemany("INSERT INTO known_addresses VALUES (?, ?, ?)", rows)

        await tasks.forget_old(now_ms=now)

        assert database.execute("SELECT key FROM known_addresses").fetchall() == [("kept",)]

    async def test_keeps_a_bounded_number_and_of_those_what_is_locked_and_what_is_newest(
        self, client: httpx.AsyncClient, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        now = epoch_ms()
        add_tallies(
            database,
            [
                ("oldest", 9, now - 4, 0),
                ("locked", 10, now - 3, now + 1),
                ("older", 9, now - 2, 0),
                ("new", 1, now, 0),
            ],
        )

        async with tasks.database.sessions.begin() as session:
            dropped = await forget_tallies_beyond(session, 2)

        assert dropped == 2
        assert database.execute("SELECT key FROM attempts ORDER BY key").fetchall() == [("locked",), ("new",)]

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

    async def test_forgets_requests_400_days_after_they_were_over(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, tasks: AccountTasks
    ) -> None:
        now = epoch_ms()
        before, after = now - 400 * DAY_MS - 1, now - 400 * DAY_MS
        rows: list[tuple[Any, ...]] = [
            ("apr_decided", "approved", before - 1, before),
            ("apr_refused", "refused", before - 1, before),
            ("apr_expired", "pending", before, None),
            ("apr_decided_later", "approved", before, after),
            ("apr_expired_later", "pending", after, None),
            ("apr_waiting", "pending", now + 1, None),
        ]
        for approval_id, state, expires_at_ms, decided_at_ms in rows:
            database.execute(
                "INSERT INTO approvals VALUES (?, ?, 'user.grant_admin', 'usr_1', '{}', ?, ?, 1, ?, NULL, ?, 0)",
                (approval_id, admin.institution_id, state, admin.user_id, expires_at_ms, decided_at_ms),
            )
        recorded = len(events(database))

        await tasks.forget_old(now_ms=now)

        left = {row[0] for row in database.execute("SELECT approval_id FROM approvals")}
        assert left == {"apr_decided_later", "apr_expired_later", "apr_waiting"}
        assert len(events(database)) == recorded
