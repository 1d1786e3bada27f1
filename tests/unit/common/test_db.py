import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select, text
from sqlalchemy.exc import OperationalError

from common.db import insert_ignoring_repeats, migrate, open_database, writing_engine
from common.db_connections import BUSY_TIMEOUT_MS
from tests.migrations import BROKEN, INITIAL, SECOND, write_migrations
from tests.waiting import PATIENCE_S

TOGETHER = 4
PROJECT = Path(__file__).parents[3]


def rows(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM notes ORDER BY number").fetchall()


class TestMigrate:
    def test_makes_folder_file_and_tables(self, tmp_path: Path) -> None:
        path = tmp_path / "var" / "deep" / "notes.db"

        migrate(f"sqlite:///{path}", migrations=write_migrations(tmp_path / "m", INITIAL, SECOND))

        assert rows(path) == [(1, "first")]

    def test_changes_nothing_the_second_time(self, tmp_path: Path) -> None:
        path, folder = tmp_path / "notes.db", write_migrations(tmp_path / "m", INITIAL, SECOND)
        migrate(f"sqlite:///{path}", migrations=folder)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE notes SET text = 'mine'")

        migrate(f"sqlite:///{path}", migrations=folder)

        assert rows(path) == [(1, "mine")]

    def test_applies_only_what_is_missing(self, tmp_path: Path) -> None:
        path, folder = tmp_path / "notes.db", tmp_path / "m"
        migrate(f"sqlite:///{path}", migrations=write_migrations(folder, INITIAL))
        first = rows(path)

        migrate(f"sqlite:///{path}", migrations=write_migrations(folder, INITIAL, SECOND))

        assert (first, rows(path)) == ([(1,)], [(1, "first")])

    def test_leaves_the_database_as_it_was_when_one_fails(self, tmp_path: Path) -> None:
        path, folder = tmp_path / "notes.db", tmp_path / "m"
        migrate(f"sqlite:///{path}", migrations=write_migrations(folder, INITIAL))

        with pytest.raises(OperationalError):
            migrate(f"sqlite:///{path}", migrations=write_migrations(folder, INITIAL, SECOND, BROKEN))

        assert rows(path) == [(1,)]

    def test_finds_a_folder_with_an_odd_name(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.db"

        migrate(f"sqlite:///{path}", migrations=write_migrations(tmp_path / "50 % (of é)", INITIAL))

        assert rows(path) == [(1,)]

    def test_says_at_once_when_the_file_cannot_be_opened(self, tmp_path: Path) -> None:
        (tmp_path / "notes.db").mkdir()
        began = time.monotonic()

        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            migrate(
                f"sqlite:///{tmp_path / 'notes.db'}", migrations=write_migrations(tmp_path / "m", INITIAL)
            )

        assert time.monotonic() - began < BUSY_TIMEOUT_MS / 1000

    def test_gives_up_when_another_process_keeps_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("CREATE TABLE theirs (number INTEGER)")

            with pytest.raises(sqlite3.OperationalError, match="locked"):
                migrate(f"sqlite:///{path}", migrations=write_migrations(tmp_path / "m", INITIAL))

    def test_is_safe_when_processes_start_together(self, tmp_path: Path) -> None:
        path, folder = tmp_path / "notes.db", write_migrations(tmp_path / "m", INITIAL, SECOND)
        program = (
            "import sys; from pathlib import Path; from common.db import migrate; sys.stdin.readline();"
            "migrate(sys.argv[1], migrations=Path(sys.argv[2]))"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, f"sqlite:///{path}", str(folder)],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=PROJECT,
            )
            for _ in range(TOGETHER)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()

        complaints = [process.communicate(timeout=PATIENCE_S)[1].decode() for process in processes]

        assert complaints == [""] * TOGETHER
        assert [process.returncode for process in processes] == [0] * TOGETHER
        assert rows(path) == [(1, "first")]


class TestOpenDatabase:
    async def test_brings_the_schema_up_to_date_and_closes_what_it_opened(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'notes.db'}"
        async with (
            open_database(url, migrations=write_migrations(tmp_path / "m", INITIAL)) as database,
            database.sessions.begin() as session,
        ):
            found = await session.scalar(text("SELECT number FROM notes"))

        assert found == 1
        assert database.engine.sync_engine.pool.checkedin() == 0  # type: ignore[attr-defined]

    async def test_connections_are_durable_and_check_references(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'notes.db'}"
        async with (
            open_database(url, migrations=write_migrations(tmp_path / "m", INITIAL)) as database,
            database.engine.connect() as connection,
        ):
            found = [
                await connection.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]

        assert found == ["wal", 2, 1, 5000]


class TestInsertIgnoringRepeats:
    def test_leaves_a_row_that_is_there_as_it_is(self, tmp_path: Path) -> None:
        metadata = MetaData()
        table = Table(
            "notes", metadata, Column("number", Integer, primary_key=True), Column("value", Integer)
        )
        engine = writing_engine(f"sqlite:///{tmp_path / 'notes.db'}")
        metadata.create_all(engine)

        with engine.begin() as connection:
            statement = insert_ignoring_repeats(connection, table)
            connection.execute(statement, [{"number": 1, "value": 1}, {"number": 1, "value": 2}])
            found = connection.execute(select(table)).all()
        engine.dispose()

        assert found == [(1, 1)]
