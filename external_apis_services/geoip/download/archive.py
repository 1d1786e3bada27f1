"""Takes named files out of an archive that was checked first, and never writes anything else."""

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from external_apis_services.geoip.download.errors import WrongFileError
from external_apis_services.geoip.download.pins import Member, Package

CHUNK_BYTES = 1 << 20
Advance = Callable[[int], None]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_complete(package: Package, directory: Path) -> bool:
    """Tell whether every file of `package` is in `directory` and is the pinned one."""
    return all(_is_there(member, directory / member.name) for member in package.members)


def extract(package: Package, archive: Path, directory: Path, *, advance: Advance) -> None:
    """Check `archive`, then write the package's files into `directory`; each appears whole or not at all.

    `advance` is told how many bytes were written. Raises `WrongFileError` for anything that is not what is pinned.
    """
    if sha256_of(archive) != package.sha256:
        raise WrongFileError(f"{archive.name} does not have the SHA-256 {package.sha256}")
    wanted = {member.path: member for member in package.members}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for entry in opened:
                # names in the archive only choose among our own names, so none of them can lead elsewhere
                member = wanted.get(entry.name) if entry.isreg() else None
                content = opened.extractfile(entry) if member is not None else None
                if member is not None and content is not None:
                    _write(member, content, directory, advance)
                    del wanted[member.path]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise WrongFileError(f"{archive.name} cannot be unpacked: {error}") from error
    if wanted:
        raise WrongFileError(f"{archive.name} has no {', '.join(sorted(wanted))}")


def _is_there(member: Member, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == member.size and sha256_of(path) == member.sha256


def _write(member: Member, content: IO[bytes], directory: Path, advance: Advance) -> None:
    digest = hashlib.sha256()
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{member.name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != member.sha256:
            raise WrongFileError(f"{member.path} does not have the SHA-256 {member.sha256}")
        Path(unfinished).chmod(0o644)
        Path(unfinished).replace(directory / member.name)
    finally:
        Path(unfinished).unlink(missing_ok=True)
