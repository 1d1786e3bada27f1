"""The web door of log_service: `uvicorn log_service.main:app`."""

from common.app import Service, create_app
from log_service.archive.endpoints import internal, public
from log_service.bootstrap import build
from log_service.settings import LogSettings

SERVICE = Service(
    name="log_service",
    summary="The audit archive: takes records durably, keeps them in S3, gives them back.",
    settings_type=LogSettings,
    build=build,
    routers=[public, internal],
)
app = create_app(SERVICE)
