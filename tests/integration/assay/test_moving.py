"""A service's database moves between engines, row for row, or not at all."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import insert, inspect, make_url, select

from alert_service.alerts.tables import alerts
from assay.databases import DATABASES, ServiceDatabase
from assay.errors import InUseError, NotEmptyError, OperationError, OtherSchemaError
from assay.moving import Move, Moved, move_all, service_at
from assay.reading import snapshot_of
from common.db import migrate, writing_engine
from common.ids import new_id
from common.tenancy import of_every_tenant
from tests.integration.assay.filling import filled
from tests.postgres import PostgresServer
from tests.waiting import PATIENCE_S

ALERTS = DATABASES["alert_service"]


def quietly(_what: str, _rows: int) -> None:
    """Show nothing."""


def moved(database: ServiceDatabase, source: str, target: str) -> Moved:
    (done,) = move_all([Move(database, source, target)], step=quietly)
    return done


def content(database: ServiceDatabase, url: str) -> dict[str, list[bytes]]:
    with snapshot_of(database, url) as snapshot:
        return {table.name: sorted(snapshot.lines(table)) for table in database.tables}


@pytest.fixture
def source(tmp_path: Path) -> str:
    return filled(ALERTS, f"sqlite:///{tmp_path / 'alerts.db'}")


class TestTables:
    @pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
    def test_are_all_that_the_migrations_make(self, database: ServiceDatabase, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'fresh.db'}"

        migrate(url, migrations=database.migrations)

        engine = writing_engine(url)
        made = set(inspect(engine).get_table_names()) - {"alembic_version"}
        engine.dispose()
        assert {table.name for table in database.tables} == made

    @pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
    def test_say_whose_a_database_is(self, database: ServiceDatabase, tmp_path: Path) -> None:
        url = filled(database, f"sqlite:///{tmp_path / 'x.db'}")

        assert service_at(url) is database

    def test_of_senders_are_backed_up_before_those_of_receivers(self) -> None:
        order = list(DATABASES)

        senders, receivers = {"ai_service", "user_service"}, {"alert_service", "log_service"}
        assert (set(order[:2]), set(order[2:])) == (senders, receivers)
        assert order[-1] == "log_service"  # the archive's objects come after it


class TestMove:
    @pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
    def test_keeps_every_row_there_and_back(
        self, database: ServiceDatabase, postgres_url: str, tmp_path: Path
    ) -> None:
        source = filled(database, f"sqlite:///{tmp_path / 'source.db'}")
        back = f"sqlite:///{tmp_path / 'back.db'}"
        expected = content(database, source)

        there = moved(database, source, postgres_url)
        found_there = content(database, postgres_url)
        moved(database, postgres_url, back)

        assert found_there == expected
        assert content(database, back) == expected
        assert {name: facts.rows for name, facts in there.tables.items()} == {
            name: len(lines) for name, lines in expected.items()
        }

    def test_numbers_go_on_behind_the_greatest(self, source: str, postgres_url: str) -> None:
        moved(ALERTS, source, postgres_url)

        engine = writing_engine(postgres_url)
        with engine.begin() as connection:
            added = insert(alerts).values(
                alert_id="alr_new", institution_id="inst_1", institution_mode="live", outcome="review",
                policy_outcome="review", accepted_at_ms=1, body=b"",
            )  # fmt: skip
            connection.execute(added)
            query = select(alerts.c.number).where(alerts.c.alert_id == "alr_new")
            number = connection.scalar(of_every_tenant(query, "a test"))
        engine.dispose()
        assert number == 8

    def test_a_second_time_finds_that_all_is_there(self, source: str, postgres_url: str) -> None:
        first = moved(ALERTS, source, postgres_url)

        second = moved(ALERTS, source, postgres_url)

        assert (first.was_there, second.was_there) == (False, True)
        assert second.tables == first.tables

    def test_leaves_a_target_alone_that_somebody_has_used(
        self, source: str, postgres_url: str, tmp_path: Path
    ) -> None:
        filled(ALERTS, postgres_url, rows=2)
        before = content(ALERTS, postgres_url)

        with pytest.raises(NotEmptyError, match="not empty"):
            moved(ALERTS, source, postgres_url)

        assert content(ALERTS, postgres_url) == before

    def test_what_is_broken_off_leaves_no_row_and_can_be_done_again(
        self, source: str, postgres_url: str
    ) -> None:
        def break_off(what: str, _rows: int) -> None:
            if "reading back" in what:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(move_all([Move(ALERTS, source, postgres_url)], step=break_off))
        left = content(ALERTS, postgres_url)
        moved(ALERTS, source, postgres_url)

        assert not any(left.values())
        assert content(ALERTS, postgres_url) == content(ALERTS, source)

    def test_a_file_that_was_broken_off_leaves_nothing(
        self, source: str, postgres_url: str, tmp_path: Path
    ) -> None:
        def break_off(_what: str, _rows: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(move_all([Move(ALERTS, source, f"sqlite:///{tmp_path / 'b' / 'x.db'}")], step=break_off))

        assert list((tmp_path / "b").iterdir()) == []

    def test_never_changes_the_source(self, source: str, postgres_url: str, tmp_path: Path) -> None:
        before = (tmp_path / "alerts.db").read_bytes()

        moved(ALERTS, source, postgres_url)

        assert (tmp_path / "alerts.db").read_bytes() == before


class TestRefuses:
    def test_a_source_that_a_program_has_open(
        self, source: str, postgres_url: str, other_program: "OtherProgram"
    ) -> None:
        other_program.open(source)

        with pytest.raises(InUseError, match="open in another program"):
            moved(ALERTS, source, postgres_url)

    def test_a_source_that_is_written_while_it_is_copied(self, source: str, postgres_url: str) -> None:
        def write(what: str, _rows: int) -> None:
            if "reading back" in what:
                with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection:
                    connection.execute("UPDATE mails SET attempts = attempts + 1")
                    connection.commit()

        with pytest.raises(InUseError, match="written to while"):
            list(move_all([Move(ALERTS, source, postgres_url)], step=write))

        assert not any(content(ALERTS, postgres_url).values())

    def test_a_target_that_somebody_is_connected_to(self, source: str, postgres_url: str) -> None:
        with psycopg.connect(postgres_url), pytest.raises(InUseError, match="Others are connected"):
            moved(ALERTS, source, postgres_url)

    def test_a_text_that_postgresql_cannot_hold(self, source: str, postgres_url: str) -> None:
        with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection:
            connection.execute("UPDATE mails SET last_error = 'a' || char(0) || 'b'")
            connection.commit()

        with pytest.raises(OperationError, match="NUL"):
            moved(ALERTS, source, postgres_url)

    def test_a_source_of_an_earlier_version(self, tmp_path: Path, postgres_url: str) -> None:
        source = f"sqlite:///{tmp_path / 'old.db'}"
        migrate(source, migrations=ALERTS.migrations, revision="0001")

        with pytest.raises(OtherSchemaError, match="has revision 0001"):
            moved(ALERTS, source, postgres_url)

    def test_a_source_that_is_not_there(self, tmp_path: Path, postgres_url: str) -> None:
        with pytest.raises(OperationError, match="There is no file"):
            moved(ALERTS, f"sqlite:///{tmp_path / 'nothing.db'}", postgres_url)


class OtherProgram:
    """A process of its own that opens databases: locks of one process do not keep itself out."""

    def __init__(self) -> None:
        program = (
            "import sqlite3, sys\n"
            "kept = []\n"
            "for line in sys.stdin:\n"
            "    kept.append(sqlite3.connect(line.strip()))\n"
            "    kept[-1].execute('SELECT count(*) FROM sqlite_master').fetchall()\n"
            "    print('open', flush=True)\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, url: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(url.removeprefix("sqlite:///") + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "open\n"

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def other_program() -> Iterator[OtherProgram]:
    program = OtherProgram()
    yield program
    program.close()


class TestRowSecurity:
    def test_forced_policies_neither_hide_rows_nor_refuse_the_copy(
        self, source: str, postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
    ) -> None:
        role = new_id("role")
        postgres_server.execute(f"CREATE ROLE {role} LOGIN")  # the tests' own role is above all policies
        postgres_server.execute(f"ALTER DATABASE {make_url(postgres_url).database} OWNER TO {role}")
        url = make_url(postgres_url).set(username=role).render_as_string()
        migrate(url, migrations=ALERTS.migrations)
        protect(url)

        moved(ALERTS, source, url)
        moved(ALERTS, url, f"sqlite:///{tmp_path / 'back.db'}")

        with psycopg.connect(url) as connection:
            unasked = connection.execute("SELECT count(*) FROM alerts").fetchall()
            forced = connection.execute(
                "SELECT relforcerowsecurity FROM pg_class WHERE relname = 'alerts'"
            ).fetchall()
        assert content(ALERTS, f"sqlite:///{tmp_path / 'back.db'}") == content(ALERTS, source)
        assert (unasked, forced) == ([(0,)], [(True,)])


def protect(url: str) -> None:
    """Let nobody see or write alerts who does not ask for all institutions."""
    with psycopg.connect(url) as connection:
        for statement in (
            "ALTER TABLE alerts ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE alerts FORCE ROW LEVEL SECURITY",
            "CREATE POLICY every ON alerts USING (current_setting('assay.every_tenant', true) = 'on')",
        ):
            connection.execute(statement.encode())
