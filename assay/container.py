"""The file of a backup: a tar of parts, which any tar unpacks, with the SHA-256 of each in its last one.

Only one tar of the same parts exists: names, sizes and contents are all that may differ, so a changed byte anywhere is
noticed, also in what tar itself would not look at. Encryption lies around the whole (`encryption`).
"""

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol

from assay.encryption import MAGIC, OpeningFile, SealingFile
from assay.errors import BackupDamagedError, NotEmptyError, OperationError

SUMS = "SHA256SUMS"
BLOCK = 512
END = bytes(2 * BLOCK)
MOST_BYTES = 1 << 31  # of one part; larger files are not what a backup holds
ENCODING = "utf-8"  # of the names of parts
SUMS_IN_MEMORY = 1 << 23
PRIVATE = 0o600
Part = tuple[str, bytes]
"""A part's name and content."""


class _Writes(Protocol):
    def write(self, data: bytes, /) -> object:
        """Take bytes."""


class _Reads(Protocol):
    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, nothing at the end."""


class PartsWriter:
    """Writes parts one after another."""

    def __init__(self, file: _Writes) -> None:
        self._file = file
        self._sums = tempfile.SpooledTemporaryFile(max_size=SUMS_IN_MEMORY)  # noqa: SIM115 - closed in `close`

    def add(self, name: str, content: bytes) -> None:
        """Write one part."""
        self._write(name, content)
        self._sums.write(_line(name, content))

    def finish(self) -> None:
        """Write the digests and the end."""
        self._sums.seek(0)
        self._write(SUMS, self._sums.read())
        self._file.write(END)

    def close(self) -> None:
        """Let go of what was kept for the digests."""
        self._sums.close()

    def _write(self, name: str, content: bytes) -> None:
        self._file.write(_header(name, len(content)))
        self._file.write(content)
        self._file.write(bytes(-len(content) % BLOCK))


@contextmanager
def creating(path: Path, passphrase: str | None) -> Iterator[PartsWriter]:
    """Yield what writes a new backup; it has its name once it is whole and on the disk. Raises `NotEmptyError`."""
    if path.exists():
        raise NotEmptyError(f"{path} is there already; it was left as it is.")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), PRIVATE)
            yield from _written(file, passphrase)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
        _fsync(path.parent)
    except OSError as error:
        raise OperationError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _written(file: BinaryIO, passphrase: str | None) -> Iterator[PartsWriter]:
    sealing = SealingFile(file, passphrase) if passphrase is not None else None
    with closing(PartsWriter(sealing or file)) as parts:
        yield parts
        parts.finish()
        if sealing:
            sealing.finish()


def read_parts(path: Path, passphrase: str | None) -> Iterator[Part]:
    """Yield every part of a backup but the digests; raises `BackupDamagedError` and `PassphraseError`.

    Only who reads to the end knows that all of it is as it was written.
    """
    with path.open("rb") as file:
        is_encrypted = file.read(len(MAGIC)) == MAGIC
        if not is_encrypted:
            file.seek(0)
        yield from _parts(OpeningFile(file, passphrase) if is_encrypted else file)


def _parts(file: _Reads) -> Iterator[Part]:
    lines = sha256()
    while True:
        name, content = _read_part(file)
        if name == SUMS:
            break
        lines.update(_line(name, content))
        yield name, content
    if sha256(content).digest() != lines.digest():
        raise BackupDamagedError("The backup is damaged: its digests are not those of its parts.")
    if _exactly(file, len(END)) != END or file.read(1):
        raise BackupDamagedError("The backup is damaged: something follows where it should end.")


def _read_part(file: _Reads) -> Part:
    header = _exactly(file, BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(header, ENCODING, "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise BackupDamagedError("The backup is damaged, or it is another file.") from error
    if not 0 <= info.size <= MOST_BYTES or _header(info.name, info.size) != header:
        raise BackupDamagedError("The backup is damaged, or it is another file.")
    content = _exactly(file, info.size)
    if any(_exactly(file, -info.size % BLOCK)):
        raise BackupDamagedError(f"The backup is damaged behind {info.name}.")
    return info.name, content


def _exactly(file: _Reads, size: int) -> bytes:
    found = file.read(size)
    if len(found) != size:
        raise BackupDamagedError("The backup is cut off.")
    return found


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, PRIVATE, 0
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, ENCODING, "strict")
    except ValueError as error:  # too long, or of bytes that are no text
        raise OperationError(f"{name!a} cannot be the name of a part of a backup.") from error


def _line(name: str, content: bytes) -> bytes:
    return f"{sha256(content).hexdigest()}  {name}\n".encode()


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
