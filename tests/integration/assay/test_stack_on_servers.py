"""The local stack on PostgreSQL is backed up and restored as the one on SQLite is, and never mistaken for it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assay.databases import DATABASES
from assay.manifest import Manifest
from assay.reading import snapshot_of
from assay.verifying import verify
from local_stack.files import StackFiles
from local_stack.settings import GeoProvider, Stores
from local_stack.stack import Stack, owned_stack
from tests.e2e.stacks import stack_settings
from tests.integration.assay.filling import filled
from tests.integration.assay.test_commands import assay

ROWS, OLD_ROWS = 3, 1
NEEDED = ("postgresql", "object_store")


@contextmanager
def running(var: Path) -> Iterator[Stack]:
    """Run what keeps the data of the stack in `var`."""
    settings = stack_settings(var, stores=Stores.SERVERS)
    with owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        stack.parts = tuple(part for part in stack.parts if part.name in NEEDED)
        stack.start()
        stack.await_ready()
        yield stack


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack on PostgreSQL that is stopped, with rows in every table."""
    folder = tmp_path_factory.mktemp("servers") / "var"
    with running(folder) as stack:
        for service, database in DATABASES.items():
            filled(database, stack.storage.databases[service], rows=ROWS)
    return folder


@pytest.fixture
def with_old_files(var: Path) -> Iterator[Path]:
    """The same, with the SQLite files of an earlier life beside it."""
    files = [StackFiles(var).database(service) for service in DATABASES]
    for database, file in zip(DATABASES.values(), files, strict=True):
        filled(database, f"sqlite:///{file}", rows=OLD_ROWS)
    yield var
    for file in files:
        file.unlink()


def of_the_servers(manifest: Manifest) -> bool:
    rows = [table.rows for facts in manifest.services.values() for table in facts.tables.values()]
    engines = {facts.engine for facts in manifest.services.values()}
    return engines == {"postgresql"} and min(rows) == ROWS


def rows_of(stack: Stack) -> dict[str, list[bytes]]:
    found = {}
    for service, database in DATABASES.items():
        with snapshot_of(database, stack.storage.databases[service]) as snapshot:
            for table in database.tables:
                found[f"{service}.{table.name}"] = sorted(snapshot.lines(table))
    return found


class TestBackup:
    def test_of_a_stack_that_runs_is_of_the_databases_it_uses(
        self, with_old_files: Path, tmp_path: Path
    ) -> None:
        with running(with_old_files):
            done = assay("backup", tmp_path / "b.tar", VAR_DIR=with_old_files)

        assert (done.returncode, done.stderr) == (0, "")
        assert of_the_servers(verify(tmp_path / "b.tar", passphrase=None))

    @pytest.mark.parametrize("told", [{"STORES": "servers"}, {}], ids=["STORES=servers", "not told"])
    def test_of_a_stopped_stack_starts_its_server_meanwhile(
        self, told: dict[str, str], var: Path, tmp_path: Path
    ) -> None:
        done = assay("backup", tmp_path / "b.tar", VAR_DIR=var, **told)

        assert (done.returncode, done.stderr) == (0, "")
        assert of_the_servers(verify(tmp_path / "b.tar", passphrase=None))
        assert not (var / "servers" / "postgresql" / "postmaster.pid").exists()

    def test_does_not_guess_which_databases_are_meant(self, with_old_files: Path, tmp_path: Path) -> None:
        refused = assay("backup", tmp_path / "refused.tar", VAR_DIR=with_old_files)
        old = assay("backup", tmp_path / "old.tar", VAR_DIR=with_old_files, STORES="embedded")
        new = assay("backup", tmp_path / "new.tar", VAR_DIR=with_old_files, STORES="servers")

        assert refused.returncode == 1
        assert "two kinds of databases" in refused.stderr
        assert not (tmp_path / "refused.tar").exists()
        assert (old.returncode, new.returncode) == (0, 0)
        assert not of_the_servers(verify(tmp_path / "old.tar", passphrase=None))
        assert of_the_servers(verify(tmp_path / "new.tar", passphrase=None))

    def test_says_that_there_is_no_server_and_makes_none(self, tmp_path: Path) -> None:
        refused = assay("backup", tmp_path / "b.tar", VAR_DIR=tmp_path / "var", STORES="servers")

        assert refused.returncode == 1
        assert "There is no PostgreSQL in" in refused.stderr
        assert list(tmp_path.iterdir()) == []

    def test_says_which_passwords_are_missing(self, var: Path, tmp_path: Path) -> None:
        shutil.copytree(var, tmp_path / "var")
        (tmp_path / "var" / "secrets.env").unlink()

        refused = assay("backup", tmp_path / "b.tar", VAR_DIR=tmp_path / "var", STORES="servers")

        assert refused.returncode == 1
        assert "AI_SERVICE_DATABASE_PASSWORD" in refused.stderr


class TestRestore:
    def test_into_an_empty_stack_makes_its_server(self, var: Path, tmp_path: Path) -> None:
        assay("backup", tmp_path / "b.tar", VAR_DIR=var)

        done = assay("restore", tmp_path / "b.tar", VAR_DIR=tmp_path / "new", STORES="servers")

        assert (done.returncode, done.stderr) == (0, "")
        assert "make run-servers" in done.stdout
        assert (tmp_path / "new" / "secrets.env").read_text() == (var / "secrets.env").read_text()
        with running(var) as stack:
            before = rows_of(stack)
        with running(tmp_path / "new") as stack:
            assert rows_of(stack) == before

    def test_that_is_refused_leaves_no_server(self, var: Path, tmp_path: Path) -> None:
        (var / "login.json").write_text("{}")
        assay("backup", tmp_path / "b.tar", VAR_DIR=var)
        (var / "login.json").unlink()
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "login.json").write_text('{"another": 1}')

        refused = assay("restore", tmp_path / "b.tar", VAR_DIR=tmp_path / "new", STORES="servers")

        assert refused.returncode == 1
        assert "login.json is there already" in refused.stderr
        assert not (tmp_path / "new" / "secrets.env").exists()
        assert list((tmp_path / "new" / "servers").iterdir()) == []

    def test_over_a_stopped_stack_with_rows_is_refused(self, var: Path, tmp_path: Path) -> None:
        filled_elsewhere = tmp_path / "other"
        for service, database in DATABASES.items():
            filled(database, f"sqlite:///{filled_elsewhere / service}.db", rows=OLD_ROWS)
        assay("backup", tmp_path / "b.tar", VAR_DIR=filled_elsewhere)

        refused = assay("restore", tmp_path / "b.tar", VAR_DIR=var)

        assert refused.returncode == 1
        assert "is not empty" in refused.stderr
        with running(var) as stack:
            assert min(len(lines) for lines in rows_of(stack).values()) == ROWS
