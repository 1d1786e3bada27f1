"""alert_service as a real process that can be killed, and what its mails say."""

import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import Alerts
from tests.conftest import RunningUserService
from tests.integration.log_service.processes import Process, started
from tests.mail_server import Received
from tests.servers import free_port
from tests.waiting import PATIENCE_S, eventually


@asynccontextmanager
async def alert_service_process(
    folder: Path, users: RunningUserService, *, smtp_port: int, **changes: str
) -> AsyncIterator[tuple[Process, Alerts]]:
    """Run `python -m alert_service` over the database in `folder` and wait until it is ready."""
    port = free_port()
    environment = {
        "ENVIRONMENT": "test",
        "SETTINGS_FILE": os.devnull,
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{folder}/alert_service.db",
        "USER_SERVICE_URL": users.url,
        "SMTP_PORT": str(smtp_port),
        "MAIL_COLLECT_S": "0.05",
        **changes,
    }
    async with (
        started("alert_service", log=folder / "alert_service.log", environment=environment) as process,
        HttpxAiohttpClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
    ):
        await eventually(lambda: _is_ready(client))
        yield process, Alerts(client, users)


async def raise_until_done(alerts: Alerts, ids: Sequence[str]) -> bool:
    """Raise alerts named `ids` and return whether that was acknowledged."""
    try:
        response = await alerts.raise_alerts(*(alert_body(alert_id=each) for each in ids))
    except httpx.HTTPError:
        return False
    return response.status_code == 202


async def is_gone(alerts: Alerts) -> bool:
    """Return whether the service takes no connections any more."""
    try:
        await alerts.client.get("/health", headers={"Connection": "close"})
    except httpx.HTTPError:
        return True
    return False


def times_told(received: Iterable[Received]) -> Counter[str]:
    """Return in how many different mails each alert is; the same mail twice counts once."""
    mails: defaultdict[str, set[str]] = defaultdict(set)
    for each in received:
        for word in each.text.split():
            if word.startswith("alr_"):
                mails[word].add(str(each.message["Message-ID"]))
    return Counter({alert_id: len(found) for alert_id, found in mails.items()})


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/ready")).status_code == 200
    except httpx.HTTPError:
        return False
