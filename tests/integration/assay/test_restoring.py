"""A backup is restored whole into what is empty, or nothing of it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from ai_service.scoring.tables import decision_sequences
from assay.archive_objects import StoredObject, open_archive
from assay.backing_up import back_up
from assay.databases import DATABASES
from assay.errors import BackupDamagedError, NotEmptyError, OperationError
from assay.object_server import reachable_archive
from assay.reading import snapshot_of
from assay.restoring import Restored, restore
from assay.settings import Deployment
from assay.verifying import verify
from common.canonical import sha256_hex
from common.db import writing_engine
from common.tenancy import of_every_tenant
from local_stack.errors import AlreadyRunningError
from local_stack.files import StackFiles
from local_stack.ownership import owning
from log_service.archive.objects import compress
from log_service.archive.tables import numbers, objects
from log_service.settings import LogSettings
from tests.integration.assay.filling import filled

KEY = "audit/live/inst_1/2026/11/02/decision-{:012d}.ndjson.gz"
CONTENT = b'{"a":1}\n'


def quietly(_what: str, _rows: int) -> None:
    """Show nothing."""


def deployment(folder: Path) -> Deployment:
    files = StackFiles(folder)
    return Deployment(
        urls={service: f"sqlite:///{files.database(service)}" for service in DATABASES},
        s3=LogSettings(
            _env_file=None, s3_access_key_id="k", s3_secret_access_key="s", s3_addressing_style="path",
            s3_create_bucket=True,
        ),
        models_dir=files.models,
        rules_file=None,
        stack=files,
    )  # fmt: skip


def stored(number: int, content: bytes = CONTENT) -> StoredObject:
    return StoredObject(100 + number, KEY.format(number), 1, 1, 1, len(content), sha256_hex(content))


def put(place: Deployment, each: StoredObject, content: bytes = CONTENT) -> None:
    with reachable_archive(place) as settings, open_archive(settings) as archive:
        assert archive.put(each, compress(content))


def know(place: Deployment, each: StoredObject, number: int, *, counted: bool = True) -> None:
    """Let log_service's database know an object as stored."""
    engine = writing_engine(place.urls["log_service"])
    row = {
        "institution_mode": "live", "institution_id": "inst_1", "day": "2026-11-02", "kind": "decision",
        "number": number, "state": "stored", "attempts": 1, "sealed_at": 1, "stored_at": 2, "has_bodies": False,
        **{name: getattr(each, name) for name in StoredObject.__dataclass_fields__},
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(of_every_tenant(insert(objects).values(row), "a test"))
        if counted:
            connection.execute(
                insert(numbers).values(institution_mode="live", institution_id="inst_1", last_number=number)
            )
    engine.dispose()


@pytest.fixture
def old(tmp_path: Path) -> Deployment:
    """A stack with rows in every table, keys, a model, and an archive of one object."""
    place = deployment(tmp_path / "old")
    for service, database in DATABASES.items():
        filled(database, place.urls[service])
    assert place.stack is not None
    assert place.models_dir is not None
    place.stack.secrets.write_text("SIGNING_KEY_PASSPHRASE=x\n")
    (place.models_dir / "1").mkdir(parents=True)
    (place.models_dir / "1" / "model.npz").write_bytes(b"\0\1")
    (place.models_dir / "current.json").write_text("{}")
    put(place, stored(1))
    know(place, stored(1), 1)
    return place


@pytest.fixture
def backup(old: Deployment, tmp_path: Path) -> Path:
    return back_up(old, tmp_path / "b.tar", passphrase=None, step=quietly).path


def restored(backup: Path, place: Deployment) -> Restored:
    return restore(backup, place, passphrase=None, step=quietly)


def rows_of(place: Deployment) -> dict[str, list[bytes]]:
    found = {}
    for service, database in DATABASES.items():
        with snapshot_of(database, place.urls[service]) as snapshot:
            for table in database.tables:
                found[f"{service}.{table.name}"] = sorted(snapshot.lines(table))
    return found


def archived(place: Deployment) -> dict[str, bytes]:
    with reachable_archive(place) as settings, open_archive(settings) as archive:
        return {each.key: data for each, data in archive.fetched(iter([stored(1)])) if data is not None}


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Whatever the block does leaves no database and no key behind."""
    yield
    left = [path.name for path in folder.rglob("*") if path.suffix in {".db", ".env", ".unfinished"}]
    assert left == []


class TestRestore:
    def test_brings_everything_back(self, backup: Path, old: Deployment, tmp_path: Path) -> None:
        new = deployment(tmp_path / "new")

        restored(backup, new)

        assert new.stack is not None
        assert rows_of(new) == rows_of(old)
        assert archived(new) == archived(old) != {}
        assert new.stack.secrets.read_text() == "SIGNING_KEY_PASSPHRASE=x\n"
        assert new.stack.secrets.stat().st_mode & 0o777 == 0o600
        assert (new.stack.models / "1" / "model.npz").read_bytes() == b"\0\1"

    def test_a_second_time_finds_that_all_is_there(self, backup: Path, tmp_path: Path) -> None:
        new = deployment(tmp_path / "new")
        restored(backup, new)
        before = rows_of(new)

        restored(backup, new)

        assert rows_of(new) == before

    def test_goes_on_behind_what_the_archive_holds_from_later(
        self, backup: Path, old: Deployment, tmp_path: Path
    ) -> None:
        later = b'{"decision":{"decision_sequence":70}}\n'
        put(old, stored(2, later), later)
        assert old.stack is not None
        for file in old.stack.root.glob("*.db*"):
            file.unlink()

        done = restored(backup, old)

        assert done.advanced.newer_objects == 1
        engine = writing_engine(old.urls["log_service"])
        with engine.connect() as connection:
            of_bank = select(numbers.c.last_number).where(numbers.c.institution_id == "inst_1")
            assert connection.scalar(of_every_tenant(of_bank, "a test")) == 2
        engine.dispose()
        engine = writing_engine(old.urls["ai_service"])
        with engine.connect() as connection:
            of_decisions = select(decision_sequences.c.last).where(
                decision_sequences.c.institution_id == "inst_1"
            )
            assert connection.scalar(of_every_tenant(of_decisions, "a test")) == 70
        engine.dispose()


class TestRefuses:
    def test_a_stack_that_runs(self, backup: Path, tmp_path: Path) -> None:
        new = deployment(tmp_path / "new")

        with owning(StackFiles(tmp_path / "new")), pytest.raises(AlreadyRunningError):
            restored(backup, new)

    def test_a_stack_that_has_rows(self, backup: Path, tmp_path: Path) -> None:
        new = deployment(tmp_path / "new")
        filled(DATABASES["log_service"], new.urls["log_service"], rows=2)

        with pytest.raises(NotEmptyError):
            restored(backup, new)

        assert [path.name for path in (tmp_path / "new").glob("*.db")] == ["log_service.db"]
        assert not (tmp_path / "new" / "secrets.env").exists()

    def test_a_stack_with_other_keys(self, backup: Path, tmp_path: Path) -> None:
        new = deployment(tmp_path / "new")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "secrets.env").write_text("SIGNING_KEY_PASSPHRASE=another\n")

        with pytest.raises(NotEmptyError, match=r"secrets\.env"):
            restored(backup, new)

        assert list((tmp_path / "new").glob("*.db")) == []

    def test_a_bucket_with_something_else_under_a_key(self, backup: Path, tmp_path: Path) -> None:
        new = deployment(tmp_path / "new")
        put(new, stored(1), b"another content\n")

        with nothing_left(tmp_path / "new"), pytest.raises(OperationError, match="something else under"):
            restored(backup, new)

    def test_a_cut_backup_before_anything_is_made(self, backup: Path, tmp_path: Path) -> None:
        backup.write_bytes(backup.read_bytes()[:-2000])

        with pytest.raises(BackupDamagedError):
            restored(backup, deployment(tmp_path / "new"))

        assert not (tmp_path / "new").exists()

    def test_a_changed_byte_in_any_part(self, backup: Path) -> None:
        whole = backup.read_bytes()

        for place in range(7, len(whole), 499):
            backup.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(BackupDamagedError):
                verify(backup, passphrase=None)


class TestBackup:
    def test_says_which_objects_the_archive_has_lost(self, old: Deployment, tmp_path: Path) -> None:
        know(old, stored(9), 9, counted=False)

        made = back_up(old, tmp_path / "c.tar", passphrase=None, step=quietly)

        assert made.manifest.archive.missing == [KEY.format(9)]
        assert made.manifest.archive.objects == 1
