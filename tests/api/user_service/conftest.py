"""The real user_service over a database file of its own."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from common.app import create_app
from common.contracts.access import Tier
from common.db import Database
from tests.asgi import open_app, open_app_apart
from user_service.account_work.service import AccountTasks
from user_service.main import SERVICE
from user_service.settings import RegistrationPolicy, UserSettings
from user_service.times import DAY_MS

PASSWORD = "tide-and-lantern-42"
AI_SECRET = "a secret of ai_service that is long enough"
NOWHERE = "http://127.0.0.1:9"  # nothing listens there: what is to be told waits
ALERT_SECRET = "a secret of alert_service that is long enough"


@pytest.fixture
def new_settings(tmp_path: Path) -> UserSettings:
    """Settings of a service that was never started before."""
    return _settings(tmp_path / "users.db")


@pytest.fixture(scope="session")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and a signing key; making them for every test would take most of its time."""
    path = tmp_path_factory.mktemp("user_service") / "users.db"

    async def start() -> None:
        async with open_app(create_app(SERVICE, _settings(path))):
            pass

    asyncio.run(start())
    return path


@pytest.fixture
def settings(started_once: Path, tmp_path: Path) -> UserSettings:
    path = tmp_path / "users.db"
    shutil.copyfile(started_once, path)
    return _settings(path)


def _settings(path: Path) -> UserSettings:
    return UserSettings(
        database_url=f"sqlite:///{path}",
        signing_key_passphrase=SecretStr("a passphrase that is long enough for tests"),
        alert_service_url=NOWHERE,
        log_service_url=NOWHERE,
        ai_service_secret=SecretStr(AI_SECRET),
        alert_service_secret=SecretStr(ALERT_SECRET),
        registration=RegistrationPolicy.OPEN,
        operator_secret=SecretStr("a secret of the operator that is long enough"),
        _env_file=None,
    )


@pytest.fixture
async def client(settings: UserSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with open_app_apart(create_app(SERVICE, settings)) as opened:
        yield opened


@pytest.fixture
def database(settings: UserSettings, client: httpx.AsyncClient) -> Iterator[sqlite3.Connection]:
    """A second connection to the running service's database; each statement commits by itself."""
    path = settings.database_url.get_secret_value().removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
async def roomy(settings: UserSettings) -> AsyncIterator[httpx.AsyncClient]:
    """The service with room for many passwords at once, for tests of what happens at the same time."""
    async with open_app_apart(
        create_app(SERVICE, settings.model_copy(update={"password_queue": 200}))
    ) as opened:
        yield opened


@pytest.fixture
async def admin_of_roomy(roomy: httpx.AsyncClient) -> "Admin":
    return await register(roomy)


@pytest.fixture
def database_of_roomy(settings: UserSettings, roomy: httpx.AsyncClient) -> Iterator[sqlite3.Connection]:
    path = settings.database_url.get_secret_value().removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@dataclass(frozen=True)
class Admin:
    """A registered institution and the session of its first admin."""

    email: str
    institution_id: str
    user_id: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.access_token)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def registration(*, email: str = "ada@harbour.example", **changes: object) -> dict[str, Any]:
    """Return the body that registers a sandbox institution; `changes` replace fields of the admin."""
    return {
        "name": "Harbour Payments",
        "mode": "sandbox",
        "base_currency": "EUR",
        "admin": {"email": email, "password": PASSWORD, "full_name": "Ada Okafor", **changes},
    }


async def register(client: httpx.AsyncClient, *, email: str = "ada@harbour.example") -> Admin:
    response = await client.post("/v1/institutions", json=registration(email=email))
    assert response.status_code == 201, response.text
    body = response.json()
    return Admin(
        email,
        body["institution_id"],
        body["user_id"],
        body["tokens"]["access_token"],
        body["tokens"]["refresh_token"],
    )


async def log_in(client: httpx.AsyncClient, admin: Admin, *, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/v1/auth/login", json={"email": admin.email, "password": password})


async def refresh(client: httpx.AsyncClient, refresh_token: str) -> httpx.Response:
    return await client.post("/v1/auth/refresh", json={"refresh_token": refresh_token})


async def service_token(client: httpx.AsyncClient, client_id: str, secret: str) -> httpx.Response:
    return await client.post(
        "/v1/internal/service-tokens", json={"client_id": client_id, "client_secret": secret}
    )


@pytest.fixture
async def admin(client: httpx.AsyncClient) -> Admin:
    return await register(client)


async def make_key(client: httpx.AsyncClient, admin: Admin, **changes: object) -> dict[str, Any]:
    """Make an API key that may score; `changes` replace fields."""
    body = {"name": "checkout", "scopes": ["score:write"], **changes}
    response = await client.post("/v1/api-keys", headers=admin.headers, json=body)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def exchange(client: httpx.AsyncClient, key: dict[str, Any], **changes: str) -> httpx.Response:
    """Exchange an API key for a token; `changes` replace fields of the form."""
    form = {"grant_type": "client_credentials", "client_id": key["key_id"], "client_secret": key["key"]}
    return await client.post("/v1/auth/token", data={**form, **changes})


@pytest.fixture
async def key(client: httpx.AsyncClient, admin: Admin) -> dict[str, Any]:
    """An API key of `admin`'s institution that may score."""
    return await make_key(client, admin)


def problem_type(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["type"]).removeprefix("urn:assay:problem:")


@pytest.fixture
async def both(
    settings: UserSettings, postgres_url: str
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two services over one PostgreSQL database."""
    many = {"password_queue": 200, "registration_tier": Tier.ENTERPRISE}  # requests at once
    chosen = settings.model_copy(update={"database_url": SecretStr(postgres_url), **many})
    async with open_app(create_app(SERVICE, chosen)) as one, open_app(create_app(SERVICE, chosen)) as other:
        yield one, other


@pytest.fixture
async def tasks(settings: UserSettings, client: httpx.AsyncClient) -> AsyncIterator[AccountTasks]:
    """The work beside the requests, over the running service's database."""
    opened = Database(settings.database_url)
    yield AccountTasks(opened, keep_approvals_ms=400 * DAY_MS)
    await opened.engine.dispose()
