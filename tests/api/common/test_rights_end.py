"""A right that is taken away ends everywhere with the next poll: the real user_service, and a service that polls it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends
from pydantic import SecretStr
from sqlalchemy import select, update

from common.app import create_app
from common.auth.bearer import require_scope, require_service
from common.clock import epoch_ms
from common.contracts.tokens import Scope
from common.db import Database
from common.service_calls import ServiceCalls, open_service_calls
from common.settings import ServiceSettings
from common.strict_json import StrictRoute
from common.tenancy import of_every_tenant, of_tenant
from tests.api.common.conftest import Tiny
from tests.asgi import open_app
from tests.servers import serving
from tests.waiting import PATIENCE_S, eventually
from user_service.access_changes.noting import Subject, note_change
from user_service.institutions.tables import InstitutionRow
from user_service.main import SERVICE
from user_service.sessions import repository as sessions
from user_service.settings import RegistrationPolicy, UserSettings
from user_service.users.tables import UserRow

SECRET = "a secret of ai_service that is long enough"
PASSWORD = "tide-and-lantern-42"
READ = Scope.DECISIONS_READ


def guarded() -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=StrictRoute)

    @router.get("/read", dependencies=[Depends(require_scope(READ))])
    async def read() -> str:
        return "read"

    @router.get("/internal/read", dependencies=[Depends(require_service(Scope.AUDIT_WRITE))])
    async def read_as_service() -> str:
        return "read"

    return router


@dataclass
class World:
    """A user_service that serves, and another service that lets people in by what it polls there."""

    users: httpx.AsyncClient
    other: httpx.AsyncClient
    calls: ServiceCalls
    database: Database

    async def register(self, email: str) -> dict[str, Any]:
        body = {
            "name": "Harbour Payments",
            "mode": "sandbox",
            "base_currency": "EUR",
            "admin": {"email": email, "password": PASSWORD, "full_name": "Ada Okafor"},
        }
        response = await self.users.post("/v1/institutions", json=body)
        assert response.status_code == 201, response.text
        registered: dict[str, Any] = response.json()
        return {**registered, "bearer": bearer(registered["tokens"]["access_token"])}

    async def make_key(self, admin: dict[str, Any]) -> dict[str, Any]:
        body = {"name": "checkout", "scopes": [READ]}
        response = await self.users.post("/v1/api-keys", headers=admin["bearer"], json=body)
        return dict(response.json())

    async def exchange(self, key: dict[str, Any]) -> str:
        form = {"grant_type": "client_credentials", "client_id": key["key_id"], "client_secret": key["key"]}
        return str((await self.users.post("/v1/auth/token", data=form)).json()["access_token"])

    async def end_sessions_of(self, user_id: str, **user: object) -> None:
        """Do what user_service does with whoever loses a right: their sessions end."""
        async with self.database.sessions.begin() as session:
            query = select(UserRow).where(UserRow.user_id == user_id)
            owner = (await session.scalars(of_every_tenant(query, "the test"))).one()
            for name, value in user.items():
                setattr(owner, name, value)
            ended = await sessions.end_sessions(session, owner, only=None, keep=None, now_ms=epoch_ms())
            for session_id in ended:
                await note_change(session, Subject.SESSION, session_id)

    async def status(self, headers: dict[str, str]) -> int:
        return (await self.other.get("/v1/read", headers=headers)).status_code


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = UserSettings(
        database_url=f"sqlite:///{tmp_path}/users.db",
        signing_key_passphrase=SecretStr("a passphrase that is long enough for tests"),
        registration=RegistrationPolicy.OPEN,
        ai_service_secret=SecretStr(SECRET),
        _env_file=None,
    )
    database = Database(settings.database_url)
    async with serving(create_app(SERVICE, settings), lifespan="on") as url:
        own = ServiceSettings(
            user_service_url=url, service_client_secret=SecretStr(SECRET), access_poll_s=30, _env_file=None
        )
        async with (
            open_service_calls(own, client_id="ai_service") as calls,
            open_app(
                create_app(Tiny(state={"token_verifier": calls.verifier}, routers=[guarded()]).service, own)
            ) as other,
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE_S) as users,
        ):
            await eventually(calls.keys_loaded)
            await eventually(calls.access_known)
            yield World(users, other, calls, database)
    await database.engine.dispose()


@pytest.fixture
async def admin(world: World) -> dict[str, Any]:
    return await world.register("ada@harbour.example")


Take = Callable[[World, dict[str, Any], dict[str, Any]], Awaitable[None]]


async def disable_user(world: World, admin: dict[str, Any], _key: dict[str, Any]) -> None:
    await world.end_sessions_of(admin["user_id"], disabled_at_ms=1)


async def lower_role(world: World, admin: dict[str, Any], _key: dict[str, Any]) -> None:
    await world.end_sessions_of(admin["user_id"], role="viewer")


async def log_out(world: World, admin: dict[str, Any], _key: dict[str, Any]) -> None:
    await world.end_sessions_of(admin["user_id"])


async def revoke_key(world: World, admin: dict[str, Any], key: dict[str, Any]) -> None:
    response = await world.users.delete(f"/v1/api-keys/{key['key_id']}", headers=admin["bearer"])
    assert response.status_code == 204


async def suspend_institution(world: World, admin: dict[str, Any], _key: dict[str, Any]) -> None:
    async with world.database.sessions.begin() as session:
        suspending = update(InstitutionRow).values(suspended_at_ms=epoch_ms())
        await session.execute(of_tenant(admin["institution_id"], suspending))
        await note_change(session, Subject.INSTITUTION, admin["institution_id"])


KINDS: dict[str, tuple[Take, set[str]]] = {
    "disabled user": (disable_user, {"user"}),
    "lowered role": (lower_role, {"user"}),
    "revoked key": (revoke_key, {"key", "token of key"}),
    "logged-out token": (log_out, {"user"}),
    "suspended institution": (suspend_institution, {"user", "key", "token of key"}),
}


class TestEachKind:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_ends_with_the_next_poll_and_takes_nobody_else_along(
        self, world: World, admin: dict[str, Any], kind: str
    ) -> None:
        take_away, losing = KINDS[kind]
        key = await world.make_key(admin)
        neighbour = await world.register("eve@other.example")
        neighbours_key = await world.make_key(neighbour)
        callers = {
            "user": admin["bearer"],
            "key": {"X-API-Key": key["key"]},
            "token of key": bearer(await world.exchange(key)),
            "neighbour": neighbour["bearer"],
            "neighbour's key": {"X-API-Key": neighbours_key["key"]},
            "neighbour's token": bearer(await world.exchange(neighbours_key)),
        }
        await world.calls.access_feed.poll()
        before = {name: await world.status(headers) for name, headers in callers.items()}
        await take_away(world, admin, key)

        await world.calls.access_feed.poll()

        after = {name: await world.status(headers) for name, headers in callers.items()}
        assert before == dict.fromkeys(callers, 200)
        assert after == {name: 401 if name in losing else 200 for name in callers}

    async def test_lowered_gives_a_new_login_the_lower_rights_only(
        self, world: World, admin: dict[str, Any]
    ) -> None:
        await lower_role(world, admin, {})
        login = await world.users.post(
            "/v1/auth/login", json={"email": "ada@harbour.example", "password": PASSWORD}
        )
        await world.calls.access_feed.poll()
        again = bearer(login.json()["access_token"])

        assert await world.status(again) == 200
        assert (await world.users.get("/v1/api-keys", headers=again)).status_code == 403


class TestKeys:
    async def test_begin_with_their_first_use_and_are_reported_as_used(
        self, world: World, admin: dict[str, Any]
    ) -> None:
        key = await world.make_key(admin)
        first = await world.status({"X-API-Key": key["key"]})

        await world.calls.access_feed.tell_uses()

        shown = await world.users.get(f"/v1/api-keys/{key['key_id']}", headers=admin["bearer"])
        assert first == 200
        assert shown.json()["last_used_at"] is not None

    async def test_of_two_at_the_same_time_both_hold_until_the_overlap_is_over(
        self, world: World, admin: dict[str, Any]
    ) -> None:
        first, second = await asyncio.gather(world.make_key(admin), world.make_key(admin))
        path = f"/v1/api-keys/{first['key_id']}/rotate"
        third = (await world.users.post(path, headers=admin["bearer"], json={})).json()
        await world.calls.access_feed.poll()

        assert [await world.status({"X-API-Key": key["key"]}) for key in (first, second, third)] == [200] * 3
