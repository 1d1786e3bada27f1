import alert_service.alerts.tables
import alert_service.notices.tables
import alert_service.notifications.tables  # noqa: F401 - all register their tables
from alert_service.tables import metadata
from common.db import run_migrations

run_migrations(metadata)
