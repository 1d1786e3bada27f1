import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from common.db import migrate, writing_engine
from user_service.sessions import tables
from user_service.tables import MIGRATIONS, Base


class TestMigrations:
    def test_make_the_tables_that_the_code_declares(self, tmp_path: Path) -> None:
        assert tables.SessionRow.__tablename__ in Base.metadata.tables
        url = f"sqlite:///{tmp_path / 'users.db'}"

        migrate(url, migrations=MIGRATIONS)

        engine = writing_engine(url)
        with engine.connect() as connection:
            found = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        engine.dispose()
        assert found == []

    def test_keep_the_accounts_and_sessions_of_the_first_release(self, tmp_path: Path) -> None:
        path, first = tmp_path / "users.db", tmp_path / "migrations"
        (first / "versions").mkdir(parents=True)
        for name in ("env.py", "versions/0001_initial.py"):
            shutil.copyfile(MIGRATIONS / name, first / name)
        migrate(f"sqlite:///{path}", migrations=first)
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("INSERT INTO institutions VALUES ('ins_1', 'Bank', 'live', 'EUR', 1)")
            database.execute(
                "INSERT INTO users VALUES ('usr_1', 'ins_1', 'Ada@bank.example', 'ada@bank.example', 'Ada', 'admin',"
                " 'hash', 1, NULL, NULL)"
            )
            database.execute("INSERT INTO sessions VALUES ('ses_1', 'usr_1', 1, 2, NULL)")

        migrate(f"sqlite:///{path}", migrations=MIGRATIONS)

        with closing(sqlite3.connect(path)) as database:
            people = database.execute("SELECT email, email_key, login_key FROM users").fetchall()
            sessions = database.execute("SELECT session_id, user_id FROM sessions").fetchall()
        assert people == [("Ada@bank.example", "ada@bank.example", "ada@bank.example")]
        assert sessions == [("ses_1", "usr_1")]
