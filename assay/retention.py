"""What backups in a folder are called, and which of them are too many. Others' files are never touched."""

import re
from datetime import UTC, datetime
from pathlib import Path

from assay.encryption import MAGIC
from assay.manifest import FIRST

_NAME = re.compile(r"assay-\d{8}T\d{6}Z\.tar(\.encrypted)?")


def name_for(now: datetime, *, is_encrypted: bool) -> str:
    """Return the name of a backup made `now`; names sort by time."""
    return f"assay-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.tar" + (".encrypted" if is_encrypted else "")


def remove_oldest(folder: Path, *, keep: int) -> list[Path]:
    """Remove the oldest backups of `folder` so that `keep` are left, and return them."""
    ours = sorted(path for path in folder.iterdir() if _is_ours(path))
    too_many = ours[: max(0, len(ours) - keep)]
    for path in too_many:
        path.unlink()
    return too_many


def _is_ours(path: Path) -> bool:
    """Tell a backup by its name and by how it begins: a file that only has such a name is somebody else's."""
    if _NAME.fullmatch(path.name) is None or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(100)
    return start.startswith(MAGIC) or start.startswith(FIRST.encode() + b"\0")
