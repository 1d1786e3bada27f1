import asyncio
import sqlite3
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.user_service.conftest import PASSWORD, Admin, bearer, log_in, problem_type, refresh
from tests.api.user_service.people import (
    add_member,
    add_second_factor,
    code_of,
    events,
    forget_used_code,
    me,
    notices,
    session_ids,
    told_sessions,
)

URL = "/v1/users/me/second-factor"


async def log_in_with(client: httpx.AsyncClient, user: Admin, code: str) -> httpx.Response:
    body = {"email": user.email, "password": PASSWORD, "code": code}
    return await client.post("/v1/auth/login", json=body)


async def begin(client: httpx.AsyncClient, user: Admin, *, password: str = PASSWORD) -> httpx.Response:
    return await client.post(URL, headers=user.headers, json={"current_password": password})


async def confirm(client: httpx.AsyncClient, user: Admin, code: str) -> httpx.Response:
    return await client.post(f"{URL}/confirm", headers=user.headers, json={"code": code})


async def remove(
    client: httpx.AsyncClient, user: Admin, code: str, *, password: str = PASSWORD
) -> httpx.Response:
    body = {"current_password": password, "code": code}
    return await client.post(f"{URL}/remove", headers=user.headers, json=body)


class TestBegin:
    async def test_gives_a_secret_for_an_authenticator_program(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        response = await begin(client, admin)

        body = response.json()
        uri = urlsplit(body["otpauth_uri"])
        assert response.status_code == 200
        assert len(body["secret"]) == 32
        assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Assay:ada%40harbour.example")
        assert parse_qs(uri.query) == {"secret": [body["secret"]], "issuer": ["Assay"]}
        assert response.headers["cache-control"] == "no-store"

    async def test_asks_for_nothing_before_it_is_confirmed(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        await begin(client, admin)

        assert (await log_in(client, admin)).status_code == 200
        assert (await me(client, admin.access_token))["second_factor"] is False

    async def test_needs_the_current_password(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        response = await begin(client, admin, password="not-the-password-1")

        assert response.status_code == 403
        assert problem_type(response) == "wrong-current-password"
        assert database.execute("SELECT totp_secret FROM users").fetchone() == (None,)

    async def test_is_refused_while_there_is_one(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)

        response = await begin(client, admin)

        assert response.status_code == 409
        assert problem_type(response) == "second-factor-on"
        assert (await log_in_with(client, admin, code_of(secret))).status_code == 200

    async def test_anew_makes_the_earlier_secret_worthless(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        first = (await begin(client, admin)).json()["secret"]
        second = (await begin(client, admin)).json()["secret"]

        assert problem_type(await confirm(client, admin, code_of(first))) == "invalid-code"
        assert (await confirm(client, admin, code_of(second))).status_code == 200

    async def test_stores_the_secret_encrypted(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret = (await begin(client, admin)).json()["secret"]

        assert secret not in "\n".join(database.iterdump())


class TestConfirm:
    async def test_turns_it_on_and_shows_ten_recovery_codes(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        _, codes = await add_second_factor(client, admin, database)

        dump = "\n".join(database.iterdump())
        assert len(set(codes)) == 10
        assert not [code for code in codes if code in dump or code.replace("-", "") in dump]
        assert (await me(client, admin.access_token))["second_factor"] is True
        assert problem_type(await log_in(client, admin)) == "second-factor-needed"

    async def test_is_recorded_and_told_to_the_owner(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await add_second_factor(client, admin, database)

        (event,) = events(database, "second_factor.added")
        (notice,) = notices(database, "security_change")
        assert event["subject"] == {"kind": "user", "id": admin.user_id}
        assert notice["recipients"] == [admin.email]
        assert notice["facts"]["change"] == "a second factor was added"

    @pytest.mark.parametrize("code", ["000000x", "１２３４５６", "-", "\u0000", "9" * 64])
    async def test_refuses_a_wrong_code(self, client: httpx.AsyncClient, admin: Admin, code: str) -> None:
        await begin(client, admin)

        response = await confirm(client, admin, code)

        assert response.status_code == 403
        assert problem_type(response) == "invalid-code"
        assert (await log_in(client, admin)).status_code == 200

    async def test_needs_a_beginning(self, client: httpx.AsyncClient, admin: Admin) -> None:
        response = await confirm(client, admin, "123456")

        assert response.status_code == 409
        assert problem_type(response) == "second-factor-off"

    async def test_twice_is_refused(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)

        assert problem_type(await confirm(client, admin, code_of(secret))) == "second-factor-on"

    async def test_by_many_at_once_shows_one_set_of_recovery_codes(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        code = code_of((await begin(client, admin)).json()["secret"])

        answers = await asyncio.gather(*(confirm(client, admin, code) for _ in range(8)))

        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
        assert database.execute("SELECT count(*) FROM recovery_codes").fetchone() == (10,)


class TestLogin:
    async def test_takes_the_code_of_this_moment(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)

        response = await log_in_with(client, admin, code_of(secret))

        assert response.status_code == 200
        assert (await me(client, response.json()["access_token"]))["user_id"] == admin.user_id

    async def test_takes_no_code_twice(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)
        code = code_of(secret)
        await log_in_with(client, admin, code)

        again = await log_in_with(client, admin, code)

        assert again.status_code == 401
        assert problem_type(again) == "invalid-code"

    async def test_takes_a_code_once_of_eight_at_once(
        self, roomy: httpx.AsyncClient, admin_of_roomy: Admin, database_of_roomy: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(roomy, admin_of_roomy, database_of_roomy)
        code = code_of(secret)

        answers = await asyncio.gather(*(log_in_with(roomy, admin_of_roomy, code) for _ in range(8)))

        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 6 + [429]

    async def test_takes_no_code_that_is_older_than_the_last(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)
        await log_in_with(client, admin, code_of(secret, steps_ahead=1))

        older = await log_in_with(client, admin, code_of(secret))

        assert problem_type(older) == "invalid-code"

    @pytest.mark.parametrize("steps", [-3, 3])
    async def test_takes_no_code_of_another_time(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection, steps: int
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)

        response = await log_in_with(client, admin, code_of(secret, steps_ahead=steps))

        assert problem_type(response) == "invalid-code"

    async def test_says_nothing_about_the_code_when_the_password_is_wrong(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)
        body = {"email": admin.email, "password": "not-the-password-1", "code": code_of(secret)}

        response = await client.post("/v1/auth/login", json=body)

        assert problem_type(response) == "invalid-credentials"
        assert (await log_in_with(client, admin, code_of(secret))).status_code == 200

    async def test_of_an_account_without_second_factor_passes_over_a_code(
        self, client: httpx.AsyncClient, admin: Admin
    ) -> None:
        assert (await log_in_with(client, admin, "123456")).status_code == 200

    async def test_says_invalid_credentials_for_a_disabled_account_with_a_second_factor(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        await add_second_factor(client, admin, database)
        database.execute("UPDATE users SET disabled_at_ms = 1")

        assert problem_type(await log_in(client, admin)) == "invalid-credentials"


class TestRecoveryCode:
    async def test_stands_in_once(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        _, codes = await add_second_factor(client, admin, database)

        first = await log_in_with(client, admin, codes[0])
        again = await log_in_with(client, admin, codes[0])
        other = await log_in_with(client, admin, codes[1].upper().replace("-", " "))

        assert [first.status_code, again.status_code, other.status_code] == [200, 401, 200]
        assert len(events(database, "recovery_code.used")) == 2
        assert [notice["facts"]["change"] for notice in notices(database, "security_change")][1:] == [
            "a recovery code was used"
        ] * 2

    async def test_stands_in_once_of_eight_at_once(
        self, roomy: httpx.AsyncClient, admin_of_roomy: Admin, database_of_roomy: sqlite3.Connection
    ) -> None:
        _, codes = await add_second_factor(roomy, admin_of_roomy, database_of_roomy)

        answers = await asyncio.gather(*(log_in_with(roomy, admin_of_roomy, codes[0]) for _ in range(8)))

        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 6 + [429]

    async def test_of_somebody_else_is_worth_nothing(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        _, codes = await add_second_factor(client, admin, database)
        await add_second_factor(client, member, database)

        assert problem_type(await log_in_with(client, member, codes[0])) == "invalid-code"


class TestRemove:
    async def test_needs_password_and_code(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)

        no_password = await remove(client, admin, code_of(secret), password="not-the-password-1")
        no_code = await remove(client, admin, "000000x")
        removed = await remove(client, admin, code_of(secret))

        assert problem_type(no_password) == "wrong-current-password"
        assert problem_type(no_code) == "invalid-code"
        assert removed.status_code == 204
        assert (await log_in(client, admin)).status_code == 200
        assert (await me(client, admin.access_token))["second_factor"] is False

    async def test_takes_a_recovery_code_and_forgets_the_others(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        _, codes = await add_second_factor(client, admin, database)

        response = await remove(client, admin, codes[3])

        assert response.status_code == 204
        assert database.execute("SELECT count(*) FROM recovery_codes").fetchone() == (0,)
        assert [event["action"] for event in events(database)][-2:] == [
            "second_factor.removed",
            "recovery_code.used",
        ]

    async def test_is_refused_when_there_is_none(self, client: httpx.AsyncClient, admin: Admin) -> None:
        assert problem_type(await remove(client, admin, "123456")) == "second-factor-off"

    async def test_lets_a_new_one_be_added(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        secret, _ = await add_second_factor(client, admin, database)
        await remove(client, admin, code_of(secret))

        newer, _ = await add_second_factor(client, admin, database)

        assert (await log_in_with(client, admin, code_of(secret))).status_code == 401
        assert (await log_in_with(client, admin, code_of(newer))).status_code == 200


class TestRemoveByAnAdmin:
    async def test_ends_the_sessions_of_whoever_lost_it(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        await add_second_factor(client, member, database)
        open_before = session_ids(database, member.user_id)

        response = await client.delete(f"/v1/users/{member.user_id}/second-factor", headers=admin.headers)

        (event,) = events(database, "second_factor.removed")
        assert response.status_code == 204
        assert event["actor"] == {"kind": "user", "id": admin.user_id}
        assert told_sessions(database) == open_before
        assert (await refresh(client, member.refresh_token)).status_code == 401
        assert (await log_in(client, member)).status_code == 200
        assert notices(database, "security_change")[-1]["recipients"] == [member.email]

    async def test_is_refused_when_there_is_none(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)

        response = await client.delete(f"/v1/users/{member.user_id}/second-factor", headers=admin.headers)

        assert problem_type(response) == "second-factor-off"
        assert (await refresh(client, member.refresh_token)).status_code == 200

    async def test_is_refused_to_others(
        self, client: httpx.AsyncClient, admin: Admin, database: sqlite3.Connection
    ) -> None:
        member = await add_member(client, admin, database)
        await add_second_factor(client, admin, database)

        response = await client.delete(
            f"/v1/users/{admin.user_id}/second-factor", headers=bearer(member.access_token)
        )

        assert response.status_code == 403
        forget_used_code(database)
        assert problem_type(await log_in(client, admin)) == "second-factor-needed"
