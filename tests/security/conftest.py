"""Every service, opened as its own API tests open it, with everybody who may call it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from common.app import create_app
from common.contracts.access import Tier
from tests.api.ai_service.conftest import OpenAi, models_dir, open_ai, targets
from tests.api.alert_service.conftest import OpenAlerts, mails, open_alerts
from tests.api.external_apis_services.conftest import Start, start
from tests.api.log_service.conftest import bucket
from tests.api.log_service.harness import NEVER_S, Bucket, log_settings, open_log_service
from tests.api.user_service.appointed import changed
from tests.api.user_service.conftest import settings as user_settings
from tests.api.user_service.conftest import started_once
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.security.worlds import (
    World,
    ai_world,
    alert_world,
    everybody,
    external_world,
    log_world,
    user_world,
)
from user_service.main import SERVICE as USER_SERVICE
from user_service.settings import UserSettings

# fixtures that live beside the tests of each service
__all__ = [
    "bucket",
    "mails",
    "models_dir",
    "open_ai",
    "open_alerts",
    "start",
    "started_once",
    "targets",
    "user_settings",
]
OpenWorld = Callable[..., AbstractAsyncContextManager[World]]
UNLIMITED = {"unauthenticated_per_minute": 10**7, "failed_authentications_per_minute": 10**7}
"""So many cases of one address would be too many requests for any real one."""


@pytest.fixture
def open_world(
    open_ai: OpenAi,
    open_alerts: OpenAlerts,
    start: Start,
    bucket: Bucket,
    user_settings: UserSettings,
    users: RunningUserService,
    tmp_path_factory: pytest.TempPathFactory,
) -> OpenWorld:
    """Open a service by its name; what it logs is left out unless it is asked for."""

    @asynccontextmanager
    async def opened(service: str, *, log_level: str = "error") -> AsyncIterator[World]:
        changes = {**UNLIMITED, "log_level": log_level}
        if service == "user_service":
            settings = changed(user_settings, registration_tier=Tier.ENTERPRISE, **changes)
            async with open_app(create_app(USER_SERVICE, settings)) as client:
                yield await user_world(client, settings)
            return
        known = everybody(users.fake)
        if service == "ai_service":
            async with open_ai(**changes) as ai:
                yield await ai_world(ai, known)
        elif service == "alert_service":
            async with open_alerts(**changes) as alerts:
                yield await alert_world(alerts, known)
        elif service == "log_service":
            folder = tmp_path_factory.mktemp("log_service")
            log = log_settings(folder, users, bucket, archive_interval_s=NEVER_S, **changes)
            async with open_log_service(log, users) as logs:
                yield await log_world(logs, known)
        else:
            async with start(**changes) as external:
                yield await external_world(external, known)

    return opened
