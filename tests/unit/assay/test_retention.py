"""The oldest backups go, what killed ones left goes, and nothing else does."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assay.container import creating
from assay.manifest import FIRST, Heading, as_bytes
from assay.retention import from_the_future, name_for, remove_oldest, remove_unfinished

AT = datetime(2026, 11, 21, 22, 15, tzinfo=UTC)
PASSPHRASE = "correct horse battery"


def made(
    folder: Path, day: int, *, passphrase: str | None = None, named: str = "", says: int | None = None
) -> Path:
    """Write what begins as a backup of November does; `says` is another day in its heading."""
    path = folder / (named or name_for(AT.replace(day=day), is_encrypted=passphrase is not None))
    made_at = AT.replace(day=says or day).isoformat()
    with creating(path, passphrase) as parts:
        parts.add(FIRST, as_bytes(Heading(format=1, product_version="0.1.0", made_at=made_at)))
    return path


class TestRemoveOldest:
    def test_keeps_the_newest(self, tmp_path: Path) -> None:
        backups = [made(tmp_path, day) for day in (3, 1, 4, 2)]

        removed = remove_oldest(backups[2], keep=2)

        assert [path.name[:14] for path in removed] == ["assay-20261101", "assay-20261102"]
        assert sorted(tmp_path.iterdir()) == sorted([backups[0], backups[2]])

    def test_counts_encrypted_ones_too(self, tmp_path: Path) -> None:
        old = made(tmp_path, 1, passphrase=PASSPHRASE)

        assert remove_oldest(made(tmp_path, 2), keep=1) == [old]

    def test_keeps_all_when_there_are_few(self, tmp_path: Path) -> None:
        assert remove_oldest(made(tmp_path, 1), keep=5) == []

    @pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "encrypted"])
    def test_keeps_what_was_just_made_when_the_clock_went_back(
        self, passphrase: str | None, tmp_path: Path
    ) -> None:
        from_later = [made(tmp_path, day, passphrase=passphrase) for day in (20, 21)]
        new = made(tmp_path, 3, passphrase=passphrase)

        removed = remove_oldest(new, keep=1)

        assert removed == from_later
        assert list(tmp_path.iterdir()) == [new]

    def test_believes_the_heading_rather_than_the_name(self, tmp_path: Path) -> None:
        older, newer = made(tmp_path, 9, says=1), made(tmp_path, 2)

        assert remove_oldest(made(tmp_path, 10), keep=2) == [older]
        assert newer.exists()

    def test_a_file_of_another_name_is_not_counted(self, tmp_path: Path) -> None:
        backups = [made(tmp_path, day) for day in (1, 2)]

        assert remove_oldest(made(tmp_path, 3, named="before-the-move.tar"), keep=1) == backups[:1]

    def test_leaves_everything_else_alone(self, tmp_path: Path) -> None:
        old = made(tmp_path, 8)
        others = [
            *("assay-20261101T000000Z.tar", "assay-20261199T000000Z.tar"),
            *("assay-20261101T000000Z.tar.old", "notes.txt"),
        ]
        for name in others:
            (tmp_path / name).write_text("somebody's own")
        (tmp_path / "assay-20261102T000000Z.tar").symlink_to(tmp_path / "notes.txt")
        new = made(tmp_path, 9)

        assert remove_oldest(new, keep=1) == [old]
        assert {path.name for path in tmp_path.iterdir()} == {
            *others,
            "assay-20261102T000000Z.tar",
            new.name,
        }


class TestFromTheFuture:
    def test_names_what_says_it_is_later_than_now(self, tmp_path: Path) -> None:
        made(tmp_path, 3)
        later = [made(tmp_path, 21, passphrase=PASSPHRASE), made(tmp_path, 22)]

        assert sorted(from_the_future(made(tmp_path, 4), AT.replace(day=5))) == later


class TestRemoveUnfinished:
    def left(self, folder: Path, name: str, *, content: bytes, age: timedelta) -> Path:
        path = folder / name
        path.write_bytes(content)
        changed = (AT - age).timestamp()
        os.utime(path, (changed, changed))
        return path

    def test_removes_what_killed_backups_left_a_day_ago(self, tmp_path: Path) -> None:
        start, old = f"{FIRST}\0".encode(), timedelta(days=1, minutes=1)
        gone = {
            self.left(tmp_path, ".assay-20261101T000000Z.tar.a_b12xyz", content=start, age=old),
            self.left(tmp_path, ".assay-20261102T000000Z.tar.encrypted.a_b12xyz", content=b"", age=old),
        }
        stay = {
            self.left(tmp_path, ".assay-20261103T000000Z.tar.a_b12xyz", content=start, age=timedelta(0)),
            self.left(tmp_path, ".assay-20261104T000000Z.tar.a_b12xyz", content=b"own", age=old),
            self.left(tmp_path, ".assay-notes.tar.a_b12xyz", content=start, age=old),
        }

        assert set(remove_unfinished(tmp_path, AT)) == gone
        assert set(tmp_path.iterdir()) == stay

    def test_a_folder_that_is_not_there_has_none(self, tmp_path: Path) -> None:
        assert remove_unfinished(tmp_path / "nothing", AT) == []
