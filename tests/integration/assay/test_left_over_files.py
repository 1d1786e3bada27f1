"""What SQLite kept beside a database that was taken away never gets into another one of its name."""

import subprocess
import sys
from pathlib import Path

import pytest

from assay.backing_up import back_up
from assay.databases import DATABASES
from assay.errors import NotEmptyError
from assay.moving import Move, move_all
from assay.restoring import restore
from common.db import migrate
from tests.integration.assay.filling import filled
from tests.integration.assay.test_restoring import deployment, quietly
from tests.waiting import PATIENCE_S

USERS = DATABASES["user_service"]
BESIDE = ["-wal", "-shm", "-journal"]
KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA journal_mode = wal")
for number in range(50):
    connection.execute("INSERT INTO counters (name, last) VALUES (?, 1)", (f"old-{number}",))
    connection.commit()
os.kill(os.getpid(), 9)
"""


def killed(database: Path) -> dict[str, bytes]:
    """Leave what a killed service leaves when its database is removed; return the files by name."""
    migrate(f"sqlite:///{database}", migrations=USERS.migrations)
    subprocess.run([sys.executable, "-c", KILLED, str(database)], check=False, timeout=PATIENCE_S)
    database.unlink()
    left = {path.name: path.read_bytes() for path in database.parent.glob(f"{database.name}*")}
    assert f"{database.name}-wal" in left
    return left


def in_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class TestMove:
    def test_is_refused_beside_an_old_write_ahead_log(self, tmp_path: Path) -> None:
        source = filled(USERS, f"sqlite:///{tmp_path / 'source.db'}", rows=2)
        (tmp_path / "new").mkdir()
        left = killed(tmp_path / "new" / "users.db")

        with pytest.raises(NotEmptyError, match=r"users\.db-wal is there already") as refused:
            list(move_all([Move(USERS, source, f"sqlite:///{tmp_path / 'new' / 'users.db'}")], step=quietly))

        assert str(tmp_path / "new" / "users.db-shm") in refused.value.details[0]
        assert in_folder(tmp_path / "new") == left

    @pytest.mark.parametrize("suffix", ["", *BESIDE])
    def test_is_refused_when_a_file_comes_meanwhile(self, suffix: str, tmp_path: Path) -> None:
        source = filled(USERS, f"sqlite:///{tmp_path / 'source.db'}", rows=2)
        coming = tmp_path / "new" / f"users.db{suffix}"

        def come(what: str, _rows: int) -> None:
            if "reading back" in what:
                coming.write_bytes(b"")

        with pytest.raises(NotEmptyError):
            list(move_all([Move(USERS, source, f"sqlite:///{tmp_path / 'new' / 'users.db'}")], step=come))

        assert in_folder(tmp_path / "new") == {coming.name: b""}


class TestRestore:
    def test_is_refused_beside_an_old_write_ahead_log(self, tmp_path: Path) -> None:
        old, new = deployment(tmp_path / "old"), deployment(tmp_path / "new")
        for service, database in DATABASES.items():
            filled(database, old.urls[service], rows=2)
        back_up(old, tmp_path / "b.tar", passphrase=None, step=quietly)
        (tmp_path / "new").mkdir()
        left = killed(tmp_path / "new" / "user_service.db")

        with pytest.raises(NotEmptyError, match=r"user_service\.db-wal"):
            restore(tmp_path / "b.tar", new, passphrase=None, step=quietly)

        there = in_folder(tmp_path / "new")
        assert {name: there.get(name) for name in left} == left
        assert [name for name in there if name.endswith(".db")] == []
