"""What user_service promises when several of its processes share a PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from common.app import create_app
from common.clock import epoch_ms
from common.db import Database
from tests.api.user_service.appointed import join, register_live
from tests.api.user_service.conftest import Admin
from tests.asgi import open_app
from user_service.events.recording import SYSTEM
from user_service.main import SERVICE
from user_service.settings import UserSettings
from user_service.signing_keys.schedule import DAY_MS
from user_service.signing_keys.store import KeyStore, RotationUnderWayError

PASSPHRASE = "a passphrase that is long enough for tests"


@dataclass(frozen=True)
class Service:
    """Two processes' worth of user_service, and the database they share."""

    settings: UserSettings
    clients: list[httpx.AsyncClient]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.settings.database_url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
async def service(postgres_url: str) -> AsyncIterator[Service]:
    settings = UserSettings(
        database_url=postgres_url,
        signing_key_passphrase=SecretStr(PASSPHRASE),
        operator_email="first@platform.example",
        _env_file=None,
    )
    async with AsyncExitStack() as stack:
        clients = await asyncio.gather(
            *(stack.enter_async_context(open_app(create_app(SERVICE, settings))) for _ in range(2))
        )
        yield Service(settings, list(clients))


class TestStartingTogether:
    async def test_makes_one_platform_one_invitation_and_one_key(self, service: Service) -> None:
        assert service.rows("SELECT institution_id FROM institutions") == [("platform",)]
        assert service.rows("SELECT count(*) FROM users") == [(1,)]
        assert service.rows("SELECT count(*) FROM notices") == [(1,)]
        assert service.rows("SELECT count(*) FROM signing_keys") == [(1,)]
        assert service.rows("SELECT action FROM identity_events ORDER BY sequence") == [
            ("institution.registered",),
            ("user.invited",),
        ]


class TestApproving:
    async def test_happens_once_however_many_approve_at_the_same_time(self, service: Service) -> None:
        first, second = service.clients
        admin = await register_live(first)
        others = [
            await join(first, service.settings, f"{name}@quay.example", institution_id=admin.institution_id)
            for name in ("sam", "tom")
        ]
        asked = await first.post(
            "/v1/users",
            headers=admin.headers,
            json={"email": "new@quay.example", "full_name": "New Person", "role": "admin"},
        )
        address = f"/v1/approvals/{asked.json()['approval_id']}/approve"

        async def approve(client: httpx.AsyncClient, who: Admin) -> int:
            return (await client.post(address, headers=who.headers)).status_code

        statuses = await asyncio.gather(
            *(approve(client, who) for client in (first, second) for who in others * 2)
        )

        assert sorted(statuses) == [200] + [409] * 7
        assert service.rows("SELECT count(*) FROM users WHERE email = 'new@quay.example'") == [(1,)]
        given = "SELECT count(*) FROM identity_events WHERE action = 'approval.given'"
        assert service.rows(given) == [(1,)]

    async def test_pages_are_in_the_order_of_asking(self, service: Service) -> None:
        client = service.clients[0]
        admin = await register_live(client)
        await join(client, service.settings, "sam@quay.example", institution_id=admin.institution_id)
        made = []
        for number in range(3):
            invitation = {"email": f"n{number}@quay.example", "full_name": "New", "role": "admin"}
            asked = await client.post("/v1/users", headers=admin.headers, json=invitation)
            made.append(asked.json()["approval_id"])

        first = (await client.get("/v1/approvals?limit=2", headers=admin.headers)).json()
        rest = (
            await client.get("/v1/approvals", headers=admin.headers, params={"cursor": first["next_cursor"]})
        ).json()

        seen = [item["approval_id"] for page in (first, rest) for item in page["items"]]
        assert seen == made[::-1]


class TestRotating:
    async def test_of_several_at_the_same_time_one_does(self, service: Service) -> None:
        database = Database(service.settings.database_url)
        store = KeyStore(database, PASSPHRASE)
        now_ms = epoch_ms() + DAY_MS

        async def rotate() -> bool:
            try:
                async with database.sessions.begin() as session:
                    await store.rotate(session, actor=SYSTEM, now_ms=now_ms)
            except RotationUnderWayError:
                return False
            return True

        done = await asyncio.gather(*(rotate() for _ in range(4)))
        await database.engine.dispose()

        assert sorted(done) == [False, False, False, True]
        assert service.rows("SELECT generation FROM signing_keys ORDER BY generation") == [(1,), (2,)]
        assert service.rows("SELECT count(*) FROM signing_keys WHERE retired_at_ms IS NULL") == [(1,)]
