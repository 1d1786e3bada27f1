"""Keys that the operator gives in the settings."""

import sqlite3
from contextlib import closing
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from common.app import create_app
from tests.api.user_service.conftest import bearer, exchange, make_key, register
from tests.asgi import open_app_apart
from user_service.access_changes.noting import FEED
from user_service.main import SERVICE
from user_service.numbering import next_number
from user_service.settings import UserSettings

FRONTEND = "a-frontend-key-of-32-characters-x"
ADMIN = "an-admin-key-of-more-than-32-characters"
OTHER = "another-frontend-key-of-32-characters"


async def start(settings: UserSettings, **changes: Any) -> None:  # noqa: ANN401 - any setting
    """Start and stop the service with changed settings."""
    secret = {name: SecretStr(value) for name, value in changes.items() if name.endswith("api_key")}
    async with open_app_apart(create_app(SERVICE, settings.model_copy(update={**changes, **secret}))):
        pass


async def statuses(settings: UserSettings, *keys: str, **changes: str) -> list[int]:
    """Return what user_service answers each key: 403 says that it is known, 401 that it is not."""
    secret = {name: SecretStr(value) for name, value in changes.items()}
    async with open_app_apart(create_app(SERVICE, settings.model_copy(update=secret))) as client:
        return [await status(client, key) for key in keys]


async def status(client: httpx.AsyncClient, key: str) -> int:
    return (await client.get("/v1/api-keys", headers={"X-API-Key": key})).status_code


async def status_of_token(client: httpx.AsyncClient, token: str) -> int:
    return (await client.get("/v1/api-keys", headers=bearer(token))).status_code


def rows(settings: UserSettings, query: str) -> list[Any]:
    with closing(
        sqlite3.connect(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
    ) as connection:
        return connection.execute(query).fetchall()


TENANTS = "SELECT name, mode, base_currency FROM institutions WHERE institution_id != 'platform'"
EVENTS = "SELECT action FROM identity_events WHERE institution_id != 'platform' ORDER BY sequence"
KEYS = "SELECT name, prefix, scopes, revoked_at_ms IS NULL FROM api_keys ORDER BY key_id"


class TestConfiguredKeys:
    async def test_are_made_at_the_first_start_with_exactly_that_text(self, settings: UserSettings) -> None:
        known = await statuses(
            settings, FRONTEND, ADMIN, OTHER, frontend_api_key=FRONTEND, admin_api_key=ADMIN
        )

        assert known == [403, 403, 401]
        assert rows(settings, KEYS) == [
            ("frontend", "a-fr", "score:write", 1),
            ("admin", "an-a", "score:write decisions:read alerts:read audit:read usage:read", 1),
        ]
        assert rows(settings, TENANTS) == [("Default", "sandbox", "EUR")]
        assert rows(settings, EVENTS) == [
            ("institution.registered",),
            ("api_key.created",),
            ("api_key.created",),
        ]

    async def test_are_left_alone_by_every_later_start(self, settings: UserSettings) -> None:
        for _ in range(3):
            await start(settings, frontend_api_key=FRONTEND, admin_api_key=ADMIN)
        known = await statuses(settings, FRONTEND, ADMIN, frontend_api_key=FRONTEND, admin_api_key=ADMIN)

        assert len(rows(settings, KEYS)) == 2
        assert len(rows(settings, EVENTS)) == 3
        assert known == [403, 403]

    async def test_are_replaced_when_the_setting_changes(self, settings: UserSettings) -> None:
        await start(settings, frontend_api_key=FRONTEND, admin_api_key=ADMIN)

        known = await statuses(settings, FRONTEND, OTHER, ADMIN, frontend_api_key=OTHER, admin_api_key=ADMIN)

        assert known == [401, 403, 403]
        assert rows(settings, TENANTS) == [("Default", "sandbox", "EUR")]

    async def test_work_again_when_the_setting_changes_back(self, settings: UserSettings) -> None:
        await start(settings, frontend_api_key=FRONTEND)
        await start(settings, frontend_api_key=OTHER)

        known = await statuses(settings, FRONTEND, OTHER, frontend_api_key=FRONTEND)
        again = await statuses(settings, FRONTEND, OTHER, frontend_api_key=OTHER)

        assert (known, again) == ([403, 401], [401, 403])
        assert len(rows(settings, KEYS)) == 2

    async def test_end_when_the_setting_is_emptied_and_work_again_when_it_comes_back(
        self, settings: UserSettings
    ) -> None:
        await start(settings, frontend_api_key=FRONTEND, admin_api_key=ADMIN)

        without = await statuses(settings, FRONTEND, ADMIN, admin_api_key=ADMIN)
        back = await statuses(settings, FRONTEND, ADMIN, frontend_api_key=FRONTEND, admin_api_key=ADMIN)

        assert (without, back) == ([401, 403], [403, 403])
        assert rows(settings, EVENTS)[-2:] == [("api_key.revoked",), ("api_key.restored",)]

    async def test_that_move_to_the_other_setting_get_its_scopes(self, settings: UserSettings) -> None:
        await start(settings, frontend_api_key=FRONTEND)

        await start(settings, admin_api_key=FRONTEND)

        ((name, _, scopes, _),) = rows(settings, KEYS)
        assert (name, "decisions:read" in scopes) == ("admin", True)

    async def test_that_lose_scopes_take_the_tokens_along_that_have_them(
        self, settings: UserSettings
    ) -> None:
        more = settings.model_copy(update={"admin_api_key": SecretStr(FRONTEND)})
        async with open_app_apart(create_app(SERVICE, more)) as client:
            ((key_id,),) = rows(settings, "SELECT key_id FROM api_keys")
            key = {"key_id": key_id, "key": FRONTEND}
            answers = [await exchange(client, key, scope=scope) for scope in ("score:write", "audit:read")]
            tokens = [answer.json()["access_token"] for answer in answers]
            before = [await status_of_token(client, token) for token in tokens]
        less = settings.model_copy(update={"frontend_api_key": SecretStr(FRONTEND)})
        async with open_app_apart(create_app(SERVICE, less)) as client:
            after = [await status_of_token(client, token) for token in tokens]

        assert (before, after) == ([403, 403], [403, 401])

    @pytest.mark.parametrize("others_first", [False, True])
    async def test_stay_revoked_once_a_person_did_it(
        self, settings: UserSettings, *, others_first: bool
    ) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            admin = await register(client)
        owned = {"api_keys_institution": admin.institution_id}
        await start(settings, frontend_api_key=FRONTEND, **owned)
        if others_first:
            await start(settings, frontend_api_key=OTHER, **owned)
        (key_id,) = rows(settings, "SELECT key_id FROM api_keys WHERE prefix = 'a-fr'")[0]
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            revoked = await client.delete(f"/v1/api-keys/{key_id}", headers=admin.headers)

        await start(settings, frontend_api_key=OTHER, **owned)

        assert revoked.status_code == 204
        assert await statuses(settings, FRONTEND, frontend_api_key=FRONTEND) == [401]

    async def test_take_their_numbers_in_the_order_of_everybody(
        self, settings: UserSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await start(settings, frontend_api_key=FRONTEND, admin_api_key=ADMIN)
        taken: list[str] = []

        async def noted(session: AsyncSession, name: str) -> int:
            taken.append(name)
            return await next_number(session, name)

        for user in ("access_changes.noting", "events.recording"):
            monkeypatch.setattr(f"user_service.{user}.next_number", noted)
        await start(settings, frontend_api_key=OTHER)

        kinds = ["feed" if name == FEED else "event" for name in taken]
        assert kinds == ["event"] * 3 + ["feed"] * 3

    async def test_never_end_up_with_a_stranger_of_that_name(self, settings: UserSettings) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            stranger = await register(client)
        name = rows(settings, TENANTS)[0][0]

        await start(settings, frontend_api_key=FRONTEND, api_keys_institution=name)

        owners = rows(settings, "SELECT institution_id FROM api_keys")
        assert owners != [(stranger.institution_id,)]
        assert len(rows(settings, TENANTS)) == 2

    async def test_may_belong_to_an_institution_that_is_there(self, settings: UserSettings) -> None:
        async with open_app_apart(create_app(SERVICE, settings)) as client:
            admin = await register(client)
            await make_key(client, admin)

        await start(settings, frontend_api_key=FRONTEND, api_keys_institution=admin.institution_id)

        owners = rows(settings, "SELECT DISTINCT institution_id FROM api_keys")
        assert owners == [(admin.institution_id,)]

    async def test_are_in_no_log_and_in_no_table(
        self, settings: UserSettings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await start(settings, frontend_api_key=FRONTEND, admin_api_key=ADMIN)

        with closing(
            sqlite3.connect(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
        ) as connection:
            stored = "\n".join(connection.iterdump())
        logged = capsys.readouterr().out
        assert "configured_key.made" in logged
        for key in (FRONTEND, ADMIN):
            assert key not in stored + logged

    @pytest.mark.parametrize(
        "values",
        [
            {"frontend_api_key": "too-short"},
            {"frontend_api_key": "x" * 257},
            {"admin_api_key": "with a space in the middle, and long enough"},
            {"admin_api_key": "ünlike-anything-that-fits-into-a-header"},
            {"frontend_api_key": FRONTEND, "admin_api_key": FRONTEND},
            {"api_keys_institution": ""},
            {"api_keys_institution_currency": "XXX"},
        ],
    )
    def test_have_to_be_fit_for_a_header_and_hard_to_guess(self, values: dict[str, str]) -> None:
        with pytest.raises(ValidationError) as refused:
            UserSettings(_env_file=None, **values)  # type: ignore[arg-type]

        assert all(value not in str(refused.value) for value in values.values() if len(value) > 10)
