"""The real alert_service; user_service and the mail server are on the loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from alert_service.main import SERVICE
from alert_service.settings import AlertSettings, SmtpSecurity
from common.app import create_app
from common.contracts.institutions import Institution
from common.contracts.tokens import Scope
from tests.alert_factories import alert_body
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.factories import SANDBOX
from tests.mail_server import MailServer, mail_server
from tests.waiting import eventually

OpenAlerts = Callable[..., AbstractAsyncContextManager["Alerts"]]


@dataclass
class Alerts:
    """A running alert_service and shortcuts for talking to it."""

    client: httpx.AsyncClient
    users: RunningUserService

    async def raise_alerts(self, *bodies: dict[str, Any], token: str | None = None) -> httpx.Response:
        """Raise alerts as ai_service does."""
        chosen = token or self.users.fake.service_token(Scope.ALERTS_WRITE)
        headers = {"Authorization": f"Bearer {chosen}"}
        return await self.client.post("/v1/internal/alerts", json={"alerts": list(bodies)}, headers=headers)

    async def raise_some(self, count: int, **changes: Any) -> list[str]:  # noqa: ANN401 - any JSON
        """Raise `count` alerts together and return their ids."""
        ids = [f"alr_{changes.get('customer_id', 'x')}_{number}" for number in range(count)]
        response = await self.raise_alerts(*(alert_body(alert_id=each, **changes) for each in ids))
        assert response.status_code == 202, response.text
        return ids

    async def get(self, path: str, *, institution: Institution = SANDBOX) -> httpx.Response:
        """Get `path` as a user of `institution`."""
        token = self.users.fake.user_token(institution=institution)
        return await self.client.get(path, headers={"Authorization": f"Bearer {token}"})

    async def until_state(self, alert_id: str, state: str) -> dict[str, Any]:
        """Wait until the alert's notification has `state` and return it."""
        return await eventually(lambda: self._notification(alert_id, lambda found: found["state"] == state))

    async def until_failed(self, alert_id: str) -> dict[str, Any]:
        """Wait until a try to tell the alert has failed."""
        return await eventually(lambda: self._notification(alert_id, lambda found: found["last_error"]))

    async def _notification(self, alert_id: str, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get(f"/v1/alerts/{alert_id}")).json()["notification"]
        return found if wanted(found) else {}


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    """A mail server that takes everything."""
    async with mail_server() as running:
        yield running


@pytest.fixture
async def open_alerts(users: RunningUserService, mails: MailServer, tmp_path: Path) -> OpenAlerts:
    """Start alert_service, as often as a test wants, on the same data."""

    @asynccontextmanager
    async def opened(**changes: Any) -> AsyncIterator[Alerts]:  # noqa: ANN401 - any setting
        settings = AlertSettings(
            **{
                "environment": "test",
                "database_url": f"sqlite:///{tmp_path}/alerts.db",
                "user_service_url": users.url,
                "smtp_port": mails.port,
                "smtp_security": SmtpSecurity.NONE,
                "smtp_timeout_s": 2,
                "mail_collect_s": 0.2,
                "log_level": "error",
                **changes,
            }
        )
        async with open_app(create_app(SERVICE, settings)) as client:
            await eventually(lambda: _is_ready(client))
            yield Alerts(client, users)

    return opened


async def _is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/ready")).status_code == 200


@pytest.fixture
async def alerts(open_alerts: OpenAlerts) -> AsyncIterator[Alerts]:
    """One running alert_service."""
    async with open_alerts() as opened:
        yield opened
