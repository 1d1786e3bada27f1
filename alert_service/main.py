"""The web door of alert_service."""

from alert_service.alerts.endpoints import CALLS, internal, router
from alert_service.bootstrap import build
from alert_service.notices.endpoints import internal as internal_notices
from alert_service.settings import AlertSettings
from common.app import Service, create_app
from common.internal_door import internal_door

SERVICE = Service(
    name="alert_service",
    summary="Tells people about flagged decisions, and mails what other services ask it to",
    settings_type=AlertSettings,
    build=build,
    routers=[router, internal, internal_notices],
    shortcuts=[internal_door(CALLS)],
)
app = create_app(SERVICE)
