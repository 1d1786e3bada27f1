from common.db import run_migrations
from log_service.archive.tables import metadata

run_migrations(metadata)
