"""The web door of alert_service."""

from alert_service.alerts.endpoints import internal, router
from alert_service.bootstrap import build
from alert_service.notices.endpoints import internal as internal_notices
from alert_service.settings import AlertSettings
from common.app import Service, create_app

SERVICE = Service(
    name="alert_service",
    summary="Tells people about flagged decisions, and mails what other services ask it to",
    settings_type=AlertSettings,
    build=build,
    routers=[router, internal, internal_notices],
)
app = create_app(SERVICE)
