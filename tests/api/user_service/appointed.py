"""People who join by the token that a command on the machine prints."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import httpx

from common.clock import epoch_ms
from common.db import Database
from tests.api.user_service.conftest import PASSWORD, Admin, bearer, registration
from user_service.derived_keys import derive_keys
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID
from user_service.mailed_tokens.texts import token_text
from user_service.operators.appointing import appoint
from user_service.settings import UserSettings


def changed(settings: UserSettings, **values: object) -> UserSettings:
    """Return other settings, checked like those that are read."""
    return UserSettings.model_validate({**settings.model_dump(), **values})


async def join(
    client: httpx.AsyncClient,
    settings: UserSettings,
    email: str,
    *,
    institution_id: str = PLATFORM_INSTITUTION_ID,
) -> Admin:
    """Make somebody an operator, or an admin of an institution, who has joined and is logged in."""
    database = Database(settings.database_url)
    try:
        async with database.sessions.begin() as session:
            appointed = await appoint(
                session, institution_id, email=email, full_name="Grace Adeyemi", now_ms=epoch_ms()
            )
    finally:
        await database.engine.dispose()
    assert appointed.token_id is not None
    keys = derive_keys(settings.signing_key_passphrase.get_secret_value())
    token = token_text(keys.mailed_tokens, appointed.token_id)
    response = await client.post("/v1/auth/invitations/accept", json={"token": token, "password": PASSWORD})
    assert response.status_code == 200, response.text
    tokens = response.json()
    return Admin(
        email,
        institution_id,
        appointed.user.user_id,
        tokens["access_token"],
        tokens["refresh_token"],
    )


async def register_live(client: httpx.AsyncClient, *, email: str = "liv@quay.example") -> Admin:
    """Register a live institution with one admin."""
    body = registration(email=email) | {"mode": "live", "name": "Quay Bank"}
    response = await client.post("/v1/institutions", json=body)
    assert response.status_code == 201, response.text
    made = response.json()
    tokens = made["tokens"]
    return Admin(
        email, made["institution_id"], made["user_id"], tokens["access_token"], tokens["refresh_token"]
    )


async def log_in_again(client: httpx.AsyncClient, person: Admin) -> dict[str, str]:
    """Return the headers of a new session."""
    response = await client.post("/v1/auth/login", json={"email": person.email, "password": PASSWORD})
    assert response.status_code == 200, response.text
    return bearer(response.json()["access_token"])


def events_of(database: sqlite3.Connection, institution_id: str) -> Sequence[dict[str, Any]]:
    """Return the recorded events of an institution, oldest first."""
    rows = database.execute(
        "SELECT body FROM identity_events WHERE institution_id = ? ORDER BY sequence", (institution_id,)
    )
    return [json.loads(body)["event"] for (body,) in rows]


def feed_version(database: sqlite3.Connection, institution_id: str) -> int:
    """Return the version of an institution's last change in the access feed."""
    query = "SELECT version FROM access_changes WHERE kind = 'institution' AND subject_id = ?"
    (version,) = database.execute(query, (institution_id,)).fetchone()
    return int(version)
