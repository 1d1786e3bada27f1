from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

import alert_service.alerts.tables
import alert_service.notices.tables
import alert_service.notifications.tables  # noqa: F401 - all register their tables
from alert_service.bootstrap import MIGRATIONS
from alert_service.tables import metadata
from common.db import migrate, writing_engine


class TestMigrations:
    def test_make_the_tables_the_code_declares(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/alert_service.db"

        migrate(url, migrations=MIGRATIONS)

        engine = writing_engine(url)
        with engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), metadata)
            indexes = {index["name"]: index for index in inspect(connection).get_indexes("alerts")}
        engine.dispose()
        assert differences == []
        assert str(indexes["alerts_without_mail"]["dialect_options"]["sqlite_where"]) == "mail_id IS NULL"
