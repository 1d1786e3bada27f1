from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from common.db import migrate, writing_engine
from log_service.archive.tables import metadata
from log_service.bootstrap import MIGRATIONS


class TestMigrations:
    def test_make_the_tables_the_code_declares(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/log_service.db"

        migrate(url, migrations=MIGRATIONS)

        engine = writing_engine(url)
        with engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), metadata)
            conditions = {
                index["name"]: str(index["dialect_options"].get("sqlite_where"))
                for table in metadata.tables
                for index in inspect(connection).get_indexes(table)
            }
        engine.dispose()
        assert differences == []
        assert conditions["audit_records_waiting"] == "object_id IS NULL"
        assert conditions["audit_records_by_object"] == "object_id IS NOT NULL"
        assert conditions["archive_objects_to_clear"] == "state = 'stored' AND has_bodies"
        assert conditions["archive_objects_sealed"] == "state = 'sealed'"
