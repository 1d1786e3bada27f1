"""What tests about people share: invitations, what was mailed and recorded, codes."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import httpx
import pyotp
from sqlalchemy import Engine, event

from common.clock import epoch_ms
from common.logging import request_id
from tests.api.user_service.conftest import PASSWORD, Admin, bearer
from tests.waiting import eventually
from user_service.derived_keys import DerivedKeys, derive_keys
from user_service.mailed_tokens.texts import token_text
from user_service.settings import UserSettings

PASSPHRASE = "a passphrase that is long enough for tests"
NEW_PASSWORD = "a-quay-under-four-moons"
MINUTE_MS = 60_000


@cache
def keys() -> DerivedKeys:
    return derive_keys(PASSPHRASE)


def file_of(settings: UserSettings) -> str:
    return settings.database_url.get_secret_value().removeprefix("sqlite:///")


async def invite(
    client: httpx.AsyncClient,
    admin: Admin,
    *,
    email: str = "grace@harbour.example",
    role: str = "analyst",
    **changes: object,
) -> httpx.Response:
    body = {"email": email, "full_name": "Grace Adeyemi", "role": role, **changes}
    return await client.post("/v1/users", headers=admin.headers, json=body)


async def accept(client: httpx.AsyncClient, token: str, **changes: object) -> httpx.Response:
    body = {"token": token, "password": PASSWORD, **changes}
    return await client.post("/v1/auth/invitations/accept", json=body)


async def add_member(
    client: httpx.AsyncClient,
    admin: Admin,
    database: sqlite3.Connection,
    *,
    email: str = "grace@harbour.example",
    role: str = "analyst",
) -> Admin:
    """Invite somebody who joins at once; return them and their session."""
    invited = await invite(client, admin, email=email, role=role)
    assert invited.status_code == 201, invited.text
    joined = await accept(client, newest_token(database, "invitation"))
    assert joined.status_code == 200, joined.text
    return Admin(
        email,
        admin.institution_id,
        invited.json()["user_id"],
        joined.json()["access_token"],
        joined.json()["refresh_token"],
    )


async def change(client: httpx.AsyncClient, admin: Admin, user_id: str, **body: object) -> httpx.Response:
    return await client.patch(f"/v1/users/{user_id}", headers=admin.headers, json=body)


def notices(database: sqlite3.Connection, kind: str) -> list[dict[str, Any]]:
    """Return the notices of `kind` that were asked for, oldest first, each with its `token_id`."""
    rows = database.execute("SELECT body, token_id FROM notices ORDER BY created_at_ms, notice_id")
    found = [{**json.loads(body), "token_id": token_id} for body, token_id in rows]
    return [notice for notice in found if notice["kind"] == kind]


async def all_pages(client: httpx.AsyncClient, path: str, user: Admin) -> list[list[dict[str, Any]]]:
    """Return the items of every page of a list, page by page; `path` says how many are on one."""
    pages, cursor = [], ""
    while True:
        page = (await client.get(path + cursor, headers=user.headers)).json()
        pages.append(page["items"])
        if page["next_cursor"] is None:
            return pages
        cursor = f"&cursor={page['next_cursor']}"


def newest_token(database: sqlite3.Connection, kind: str) -> str:
    """Return the token as the newest mail of `kind` holds it."""
    return token_text(keys().mailed_tokens, notices(database, kind)[-1]["token_id"])


async def until_notices(database: sqlite3.Connection, kind: str, count: int) -> list[dict[str, Any]]:
    async def there() -> list[dict[str, Any]]:
        found = notices(database, kind)
        return found if len(found) >= count else []

    return await eventually(there)


async def asked_reset(client: httpx.AsyncClient, email: str, database: sqlite3.Connection) -> str:
    """Ask for a new password; return the token of the mail, the first of its kind."""
    asked = await client.post("/v1/auth/password-resets", json={"email": email})
    assert asked.status_code == 202, asked.text
    await until_notices(database, "password_reset", 1)
    return newest_token(database, "password_reset")


async def until_tasks_are_done(database: sqlite3.Connection) -> None:
    async def done() -> bool:
        return database.execute("SELECT task_id FROM account_tasks").fetchall() == []

    await eventually(done)


def events(database: sqlite3.Connection, *actions: str) -> list[dict[str, Any]]:
    """Return what was recorded of tenants, in its order: all of it or that of `actions`."""
    rows = database.execute(
        "SELECT body FROM identity_events WHERE institution_id != 'platform' ORDER BY institution_id, sequence"
    )
    found = [json.loads(body)["event"] for (body,) in rows]
    return [each for each in found if not actions or each["action"] in actions]


def told_sessions(database: sqlite3.Connection) -> set[str]:
    """Return the sessions that the feed tells all services about."""
    return {
        row[0] for row in database.execute("SELECT subject_id FROM access_changes WHERE kind = 'session'")
    }


def session_ids(database: sqlite3.Connection, user_id: str, *, ended: bool = False) -> set[str]:
    rows = database.execute(
        "SELECT session_id FROM sessions WHERE user_id = ? AND (ended_at_ms IS NOT NULL) = ?",
        (user_id, ended),
    )
    return {row[0] for row in rows}


def fail_before(database: sqlite3.Connection, failures: int) -> None:
    """Make it so that what failed once has failed `failures` times."""
    database.execute("UPDATE attempts SET failures = ?", (failures,))


def wait_out(database: sqlite3.Connection) -> None:
    """Do what waiting does for whoever has to wait before they try again."""
    database.execute("UPDATE attempts SET waits_until_ms = 0, paced_until_ms = 0")


def at(client: httpx.AsyncClient, address: str) -> httpx.AsyncClient:
    """Return a client of the same running service at another address."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=transport.app, client=(address, 1)), base_url="http://testserver"
    )


def code_of(secret: str, *, steps_ahead: int = 0) -> str:
    return pyotp.TOTP(secret).generate_otp(epoch_ms() // 30_000 + steps_ahead)


async def add_second_factor(
    client: httpx.AsyncClient, user: Admin, database: sqlite3.Connection
) -> tuple[str, list[str]]:
    """Turn a second factor on; return its secret and the recovery codes. Its first code may be used again."""
    begun = await client.post(
        "/v1/users/me/second-factor", headers=user.headers, json={"current_password": PASSWORD}
    )
    assert begun.status_code == 200, begun.text
    secret = begun.json()["secret"]
    confirmed = await client.post(
        "/v1/users/me/second-factor/confirm", headers=user.headers, json={"code": code_of(secret)}
    )
    assert confirmed.status_code == 200, confirmed.text
    forget_used_code(database)
    return secret, confirmed.json()["recovery_codes"]


def forget_used_code(database: sqlite3.Connection) -> None:
    """Do what waiting for the next code does."""
    database.execute("UPDATE users SET totp_last_step = NULL")


def suspend(database: sqlite3.Connection) -> None:
    database.execute("UPDATE institutions SET suspended_at_ms = 1")


def with_tokens(user: Admin, answer: httpx.Response) -> Admin:
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    return replace(user, access_token=tokens["access_token"], refresh_token=tokens["refresh_token"])


async def me(client: httpx.AsyncClient, access_token: str) -> dict[str, Any]:
    answer = await client.get("/v1/users/me", headers=bearer(access_token))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def executed_statements() -> Iterator[list[str]]:
    """Note what requests ask of the database; what is done beside them is left out."""
    noted: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        if request_id():
            noted.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(Engine, "before_cursor_execute", note)
