"""A backup's file is read as it was written, or refused: cut, changed, or opened with another passphrase."""

import errno
import os
import tarfile
from pathlib import Path

import pytest

from assay.container import PartsWriter, creating, read_parts
from assay.encryption import PIECE_BYTES
from assay.errors import BackupDamagedError, NotEmptyError, OperationError, PassphraseError

PARTS = {"one.json": b"{}\n", "folder/two.gz": bytes(range(256)) * 3, "three": b"", "four": b"x" * 512}
PASSPHRASE = "correct horse battery"
OTHER = "another horse battery"


def written(path: Path, *, passphrase: str | None = None, parts: dict[str, bytes] | None = None) -> Path:
    with creating(path, passphrase) as writer:
        for name, content in (parts or PARTS).items():
            writer.add(name, content)
    return path


def read(path: Path, passphrase: str | None = None) -> dict[str, bytes]:
    return dict(read_parts(path, passphrase))


class TestFile:
    @pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
    def test_is_read_as_it_was_written(self, tmp_path: Path, passphrase: str | None) -> None:
        path = written(tmp_path / "b", passphrase=passphrase)

        assert read(path, passphrase) == PARTS

    @pytest.mark.parametrize("size", [PIECE_BYTES - 2048, PIECE_BYTES, 3 * PIECE_BYTES + 1])
    def test_may_have_any_number_of_encrypted_pieces(self, tmp_path: Path, size: int) -> None:
        parts = {"big": os.urandom(size)}

        path = written(tmp_path / "b", passphrase=PASSPHRASE, parts=parts)

        assert read(path, PASSPHRASE) == parts

    def test_may_have_parts_of_any_name_that_is_text(self, tmp_path: Path) -> None:
        parts = {"files/models/modèle-模型.txt": b"x"}

        path = written(tmp_path / "b", parts=parts)

        assert read(path) == parts
        with tarfile.open(path) as tar:
            assert tar.getnames()[0] == "files/models/modèle-模型.txt"

    def test_says_which_name_is_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(OperationError, match=r"\\udcff"):
            written(tmp_path / "b", parts={"files/models/\udcff": b"x"})

    def test_any_tar_unpacks_it(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b")

        with tarfile.open(path) as tar:
            names = tar.getnames()

        assert names == [*PARTS, "SHA256SUMS"]

    def test_is_for_this_user_alone(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b")

        assert path.stat().st_mode & 0o777 == 0o600

    def test_holds_nothing_readable_when_it_is_encrypted(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b", passphrase=PASSPHRASE, parts={"secret.env": b"THE-SECRET=1"})

        assert b"THE-SECRET" not in path.read_bytes()
        assert b"secret.env" not in path.read_bytes()

    def test_never_replaces_another(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_text("somebody's")

        with pytest.raises(NotEmptyError):
            written(tmp_path / "b")

        assert (tmp_path / "b").read_text() == "somebody's"

    def test_a_broken_off_one_leaves_nothing(self, tmp_path: Path) -> None:
        def break_off(writer: PartsWriter) -> None:
            writer.add("one", b"1")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), creating(tmp_path / "b", None) as writer:
            break_off(writer)

        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_said_and_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(OperationError, match="No space left"), creating(tmp_path / "b", None):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        assert list(tmp_path.iterdir()) == []


class TestRefuses:
    def test_a_changed_byte_anywhere(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b")
        whole = path.read_bytes()

        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(BackupDamagedError):
                read(path)

    def test_a_changed_byte_anywhere_when_it_is_encrypted(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b", passphrase=PASSPHRASE)
        whole = path.read_bytes()

        for place in [
            3,
            30,
            60,
            100,
            140,
            170,
            200,
            2000,
            len(whole) - 1,
        ]:  # the key takes a third of a second
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises((BackupDamagedError, PassphraseError)):
                read(path, PASSPHRASE)

    def test_one_that_is_cut_anywhere(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b")
        whole = path.read_bytes()

        for length in range(0, len(whole), 41):
            path.write_bytes(whole[:length])
            with pytest.raises(BackupDamagedError):
                read(path)

    def test_an_encrypted_one_that_is_cut_between_two_pieces(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b", passphrase=PASSPHRASE, parts={"big": bytes(3 * PIECE_BYTES)})
        whole = path.read_bytes()
        first = whole.index(b"\n", whole.index(b"\n") + 1) + 1

        path.write_bytes(whole[: first + 2 * (PIECE_BYTES + 16)])

        with pytest.raises(BackupDamagedError):
            read(path, PASSPHRASE)

    def test_parts_in_another_order(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b", passphrase=PASSPHRASE, parts={"big": os.urandom(3 * PIECE_BYTES)})
        whole = path.read_bytes()
        first = whole.index(b"\n", whole.index(b"\n") + 1) + 1
        size = PIECE_BYTES + 16
        one, two = whole[first : first + size], whole[first + size : first + 2 * size]

        path.write_bytes(whole[:first] + two + one + whole[first + 2 * size :])

        with pytest.raises(BackupDamagedError):
            read(path, PASSPHRASE)

    def test_something_behind_its_end(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b")

        path.write_bytes(path.read_bytes() + b"\0")

        with pytest.raises(BackupDamagedError):
            read(path)

    def test_another_passphrase(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b", passphrase=PASSPHRASE)

        with pytest.raises(PassphraseError, match="not the passphrase"):
            read(path, OTHER)

    def test_no_passphrase(self, tmp_path: Path) -> None:
        path = written(tmp_path / "b", passphrase=PASSPHRASE)

        with pytest.raises(PassphraseError, match="is needed"):
            read(path)

    @pytest.mark.parametrize("passphrase", ["", "short"])
    def test_a_short_passphrase_for_a_new_one(self, tmp_path: Path, passphrase: str) -> None:
        with pytest.raises(PassphraseError, match="shorter than 12"):
            written(tmp_path / "b", passphrase=passphrase)

        assert list(tmp_path.iterdir()) == []

    def test_another_file(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_text("to be or not to be" * 100)

        with pytest.raises(BackupDamagedError, match="another file"):
            read(tmp_path / "b")
