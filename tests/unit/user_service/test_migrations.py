from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from common.db import migrate, writing_engine
from user_service.auth import tables as auth_tables
from user_service.bootstrap import MIGRATIONS
from user_service.tables import Base


class TestMigrations:
    def test_make_the_tables_that_the_code_declares(self, tmp_path: Path) -> None:
        assert auth_tables.SessionRow.__tablename__ in Base.metadata.tables
        url = f"sqlite:///{tmp_path / 'users.db'}"

        migrate(url, migrations=MIGRATIONS)

        engine = writing_engine(url)
        with engine.connect() as connection:
            found = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        engine.dispose()
        assert found == []
