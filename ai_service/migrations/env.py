from ai_service.scoring.tables import metadata
from common.db import run_migrations

run_migrations(metadata)
