"""The web door of ai_service."""

from ai_service.bootstrap import build
from ai_service.scoring.door import HotDoor
from ai_service.scoring.endpoints import router as scoring
from ai_service.settings import AiSettings
from ai_service.usage.endpoints import router as usage
from common.app import Service, create_app

SERVICE = Service(
    name="ai_service",
    summary="Scores payments for fraud while the payer waits",
    settings_type=AiSettings,
    build=build,
    routers=[scoring, usage],
    shortcuts=[HotDoor],
)
app = create_app(SERVICE)
