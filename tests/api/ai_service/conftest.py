"""The real ai_service with a small real model; only the other services are stand-ins."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from ai_service.main import SERVICE
from ai_service.settings import AiSettings
from common.app import Service, create_app
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.factories import SANDBOX, transaction_body
from tests.fake_targets import FakeTargets
from tests.fakes import AccessChange, institution_access, key_access
from tests.models import save_test_model
from tests.servers import serving
from tests.waiting import eventually

API_KEYS = {
    name: f"ask_test_0123abcd_{name:s>43}"
    for name in ("api_key", "reading_key", "revoked_key", "expired_key", "suspended_key")
}
OpenAi = Callable[..., AbstractAsyncContextManager["Ai"]]


@dataclass
class Ai:
    """A running ai_service and shortcuts for talking to it."""

    client: httpx.AsyncClient
    users: RunningUserService

    async def score(
        self, *, institution: Institution = SANDBOX, headers: dict[str, str] | None = None, **changes: object
    ) -> httpx.Response:
        """Score a plain transaction with `changes`, now."""
        body = transaction_body(**{"event_time": "2026-11-01T10:00:00+00:00", **changes})
        return await self.client.post(
            "/v1/score", json=body, headers={**self.auth(institution), **(headers or {})}
        )

    async def get(self, path: str, *, institution: Institution = SANDBOX) -> httpx.Response:
        """Get `path` as a user of `institution`."""
        return await self.client.get(path, headers=self.auth(institution))

    def auth(self, institution: Institution = SANDBOX) -> dict[str, str]:
        """Return the header of a user who may do everything."""
        return {"Authorization": f"Bearer {self.users.fake.user_token(institution=institution)}"}


def api_keys() -> list[AccessChange]:
    """Return what the feed says of the keys above."""
    suspended = Institution(institution_id="ins_out", mode=InstitutionMode.SANDBOX, base_currency="EUR")
    scores = Scope.SCORE_WRITE
    return [
        institution_access(SANDBOX),
        institution_access(suspended, suspended=True),
        key_access(API_KEYS["api_key"], SANDBOX, scores, key_id="key_scores"),
        key_access(API_KEYS["reading_key"], SANDBOX, Scope.DECISIONS_READ, key_id="key_reads"),
        key_access(API_KEYS["revoked_key"], SANDBOX, scores, key_id="key_revoked"),
        key_access(API_KEYS["revoked_key"], SANDBOX, scores, key_id="key_revoked", revoked=True),
        key_access(API_KEYS["expired_key"], SANDBOX, scores, key_id="key_expired", expires_at=1),
        key_access(API_KEYS["suspended_key"], suspended, scores, key_id="key_suspended"),
    ]


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small model is saved."""
    folder = tmp_path_factory.mktemp("models")
    save_test_model(folder)
    return folder


@pytest.fixture
async def targets() -> FakeTargets:
    """The other services."""
    return FakeTargets()


@pytest.fixture
async def open_ai(
    users: RunningUserService, targets: FakeTargets, models_dir: Path, tmp_path: Path
) -> AsyncIterator[OpenAi]:
    """Start ai_service, as often as a test wants, on the same data."""
    users.fake.access += api_keys()
    async with serving(targets.app) as url:

        @asynccontextmanager
        async def opened(
            service: Service[AiSettings] = SERVICE,
            **changes: Any,  # noqa: ANN401 - any setting
        ) -> AsyncIterator[Ai]:
            settings = AiSettings(
                **{
                    "environment": "test",
                    "database_url": SecretStr(f"sqlite:///{tmp_path}/ai.db"),
                    "models_dir": models_dir,
                    "velocity_snapshot": tmp_path / "velocity.npz",
                    "user_service_url": users.url,
                    "alert_service_url": url,
                    "log_service_url": url,
                    "external_apis_services_url": url,
                    "deadline_ms": 5000,
                    "geoip_timeout_ms": 1000,
                    "delivery_timeout_ms": 2000,
                    "valkey_timeout_ms": 1000,
                    "log_level": "error",
                    **changes,
                }
            )
            async with open_app(create_app(service, settings)) as client:
                await eventually(lambda: _is_ready(client))
                yield Ai(client, users)

        yield opened


async def _is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/ready")).status_code == 200


@pytest.fixture
async def ai(open_ai: OpenAi) -> AsyncIterator[Ai]:
    """One running ai_service."""
    async with open_ai() as opened:
        yield opened
