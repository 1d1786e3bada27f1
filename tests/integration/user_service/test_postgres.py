"""What user_service promises when several of its processes share a PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from jose import jwt
from pydantic import SecretStr

from common.app import create_app
from common.clock import epoch_ms
from common.contracts.notices import NoticeKind
from common.cursors import to_cursor
from common.db import Database
from tests.api.user_service.appointed import join, register_live
from tests.api.user_service.conftest import Admin
from tests.asgi import open_app
from tests.fake_targets import FakeTargets
from tests.postgres import seeing_all
from tests.servers import serving
from tests.waiting import eventually
from user_service.account_work.service import AccountTasks
from user_service.events.recording import SYSTEM
from user_service.main import SERVICE
from user_service.notices.queue import Letter, queue_notice
from user_service.settings import RegistrationPolicy, UserSettings
from user_service.signing_keys import keeper
from user_service.signing_keys.keeper import KeyKeeper
from user_service.signing_keys.store import KeyStore, RotationUnderWayError
from user_service.times import DAY_MS

PASSPHRASE = "a passphrase that is long enough for tests"


@dataclass(frozen=True)
class Service:
    """Two processes' worth of user_service, and the database they share."""

    settings: UserSettings
    clients: list[httpx.AsyncClient]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(seeing_all(self.settings.database_url.get_secret_value())) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def targets() -> FakeTargets:
    """alert_service and log_service."""
    return FakeTargets()


@pytest.fixture
async def service(
    postgres_url: str, targets: FakeTargets, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    monkeypatch.setattr(keeper, "REREAD_S", 3600.0)  # so that only what is announced tells of new keys
    async with serving(targets.app) as url, _two_processes(postgres_url, url) as opened:
        yield opened


@asynccontextmanager
async def _two_processes(database_url: str, targets_url: str) -> AsyncIterator[Service]:
    settings = UserSettings(
        database_url=SecretStr(database_url),
        alert_service_url=targets_url,
        log_service_url=targets_url,
        signing_key_passphrase=SecretStr(PASSPHRASE),
        registration=RegistrationPolicy.OPEN,
        operator_email="first@platform.example",
        _env_file=None,
    )
    async with AsyncExitStack() as stack:
        clients = await asyncio.gather(
            *(stack.enter_async_context(open_app(create_app(SERVICE, settings))) for _ in range(2))
        )
        yield Service(settings, list(clients))


class TestStartingTogether:
    async def test_makes_one_platform_one_invitation_and_one_key(
        self, service: Service, targets: FakeTargets
    ) -> None:
        async def all_is_told() -> bool:
            return service.rows("SELECT count(*) FROM notices") == [(0,)]

        await eventually(all_is_told)
        assert len({each["notice_id"] for each in targets.notices}) == 1
        assert service.rows("SELECT institution_id FROM institutions") == [("platform",)]
        assert service.rows("SELECT count(*) FROM users") == [(1,)]
        assert service.rows("SELECT count(*) FROM signing_keys") == [(1,)]
        assert service.rows("SELECT action FROM identity_events ORDER BY sequence") == [
            ("institution.registered",),
            ("user.invited",),
            ("signing_key.created",),
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

    async def test_is_used_by_every_process_at_once(self, service: Service) -> None:
        database = Database(service.settings.database_url)
        async with database.sessions.begin() as session:
            new = await KeyStore(database, PASSPHRASE).rotate(
                session, actor=SYSTEM, now_ms=epoch_ms(), at_once=True
            )
        await database.engine.dispose()

        await eventually(lambda: all_publish(service, new.kid))
        admin = await register_live(service.clients[0])
        seen = [
            (await client.get("/v1/users/me", headers=admin.headers)).status_code
            for client in service.clients
        ]

        assert jwt.get_unverified_header(admin.headers["Authorization"].split()[1])["kid"] == new.kid
        assert seen == [200, 200]

    async def test_that_is_due_is_done_by_one_of_the_processes_that_look(self, service: Service) -> None:
        databases = [Database(service.settings.database_url) for _ in range(3)]
        stores = [KeyStore(database, PASSPHRASE) for database in databases]
        rings = [await store.open(now_ms=epoch_ms()) for store in stores]
        keepers = [KeyKeeper(ring, store, days=1) for ring, store in zip(rings, stores, strict=True)]
        now_ms = epoch_ms() + 2 * DAY_MS

        await asyncio.gather(*(each.look(now_ms=now_ms) for each in keepers))
        for each in keepers:
            await each.reread(now_ms=now_ms)
        for database in databases:
            await database.engine.dispose()

        assert service.rows("SELECT generation FROM signing_keys ORDER BY generation") == [(1,), (2,)]
        assert len({tuple(key.key.kid for key in ring.keys) for ring in rings}) == 1
        rotated = "SELECT count(*) FROM identity_events WHERE action = 'signing_key.rotated'"
        assert service.rows(rotated) == [(1,)]


class TestTelling:
    async def test_hands_each_notice_and_each_event_over_once_under_one_id(
        self, service: Service, targets: FakeTargets
    ) -> None:
        admin = await register_live(service.clients[0])
        database = Database(service.settings.database_url)

        async def ask(number: int) -> str:
            letter = Letter(
                NoticeKind.SECURITY_CHANGE,
                admin.institution_id,
                recipients=(f"p{number}@quay.example",),
                facts={},
            )
            async with database.sessions.begin() as session:
                return await queue_notice(session, letter, now_ms=epoch_ms())

        asked = [await ask(number) for number in range(60)]
        await eventually(lambda: nothing_waits(service))
        await database.engine.dispose()

        told = Counter(each["notice_id"] for each in targets.notices)
        archived = Counter(each["record_id"] for each in targets.records)
        assert set(asked) <= set(told)
        assert set(told.values()) == set(archived.values()) == {1}


async def nothing_waits(service: Service) -> bool:
    return await asyncio.to_thread(service.rows, "SELECT count(*) FROM outbox") == [(0,)]


async def all_publish(service: Service, kid: str) -> bool:
    sets = [(await client.get("/.well-known/jwks.json")).json()["keys"] for client in service.clients]
    return all([key["kid"] for key in keys] == [kid] for keys in sets)


class TestForgetting:
    async def test_may_be_done_by_several_at_the_same_time(self, service: Service) -> None:
        databases = [Database(service.settings.database_url) for _ in range(4)]
        tasks = [AccountTasks(database, keep_approvals_ms=DAY_MS) for database in databases]
        attempt = {"email": "nobody@quay.example", "password": "wrong wrong wrong"}
        await asyncio.gather(*(client.post("/v1/auth/login", json=attempt) for client in service.clients * 3))

        later = epoch_ms() + 400 * DAY_MS
        await asyncio.gather(*(each.forget_old(now_ms=later) for each in tasks))
        for database in databases:
            await database.engine.dispose()

        assert service.rows("SELECT count(*) FROM attempts") == [(0,)]
        assert service.rows("SELECT count(*) FROM users WHERE email = 'first@platform.example'") == [(0,)]


class TestListingSigningKeys:
    async def test_takes_the_cursor_of_any_number(self, service: Service) -> None:
        client = service.clients[0]
        operator = await join(client, service.settings, "op@platform.example")
        params = {"cursor": to_cursor(2**63 - 1)}

        listed = await client.get("/v1/signing-keys", headers=operator.headers, params=params)

        assert len(listed.json()["items"]) == 1
