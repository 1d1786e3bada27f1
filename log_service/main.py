"""The web door of log_service: `uvicorn log_service.main:app`."""

from common.app import Service, create_app
from common.internal_door import internal_door
from log_service.archive.endpoints import CALLS, internal, public
from log_service.bootstrap import build
from log_service.settings import LogSettings

SERVICE = Service(
    name="log_service",
    summary="The audit archive: takes records durably, keeps them in S3, gives them back.",
    settings_type=LogSettings,
    build=build,
    routers=[public, internal],
    shortcuts=[internal_door(CALLS)],
)
app = create_app(SERVICE)
