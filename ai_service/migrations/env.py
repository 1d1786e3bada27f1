from ai_service.changes import metadata as changes
from ai_service.ml.tables import metadata as models
from ai_service.scoring.tables import metadata as scoring
from ai_service.usage.tables import metadata as usage
from common.db import run_migrations

run_migrations([scoring, usage, changes, models])
