"""The oldest backups go, and nothing else does."""

from datetime import UTC, datetime
from pathlib import Path

from assay.container import creating
from assay.manifest import FIRST
from assay.retention import name_for, remove_oldest

AT = datetime(2026, 11, 21, 22, 15, tzinfo=UTC)


def made(folder: Path, day: int, *, passphrase: str | None = None) -> Path:
    path = folder / name_for(AT.replace(day=day), is_encrypted=passphrase is not None)
    with creating(path, passphrase) as parts:
        parts.add(FIRST, b"{}")
    return path


class TestRemoveOldest:
    def test_keeps_the_newest(self, tmp_path: Path) -> None:
        backups = [made(tmp_path, day) for day in (3, 1, 4, 2)]

        removed = remove_oldest(tmp_path, keep=2)

        assert [path.name[:14] for path in removed] == ["assay-20261101", "assay-20261102"]
        assert sorted(tmp_path.iterdir()) == sorted([backups[0], backups[2]])

    def test_counts_encrypted_ones_too(self, tmp_path: Path) -> None:
        old = made(tmp_path, 1, passphrase="correct horse battery")
        made(tmp_path, 2)

        assert remove_oldest(tmp_path, keep=1) == [old]

    def test_keeps_all_when_there_are_few(self, tmp_path: Path) -> None:
        made(tmp_path, 1)

        assert remove_oldest(tmp_path, keep=5) == []

    def test_leaves_everything_else_alone(self, tmp_path: Path) -> None:
        made(tmp_path, 9)
        others = ["assay-20261101T000000Z.tar", "assay-20261101T000000Z.tar.old", "notes.txt"]
        for name in others:
            (tmp_path / name).write_text("somebody's own")
        (tmp_path / "assay-20261102T000000Z.tar").symlink_to(tmp_path / "notes.txt")

        assert remove_oldest(tmp_path, keep=0) == [tmp_path / "assay-20261109T221500Z.tar"]
        assert {path.name for path in tmp_path.iterdir()} == {*others, "assay-20261102T000000Z.tar"}
