"""What backups in a folder are called, and which of them are too many. Others' files are never touched."""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from assay.container import read_parts
from assay.encryption import MAGIC
from assay.errors import OperationError
from assay.manifest import FIRST, read_heading

UNFINISHED_FOR = timedelta(days=1)
"""Longer than any backup takes, so that none is removed that is being written."""
_NAME = re.compile(r"assay-(\d{8}T\d{6}Z)\.tar(\.encrypted)?")
_UNFINISHED = re.compile(rf"\.{_NAME.pattern}\.[a-z0-9_]{{8}}")


def name_for(now: datetime, *, is_encrypted: bool) -> str:
    """Return the name of a backup made `now`; names sort by time."""
    return f"assay-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.tar" + (".encrypted" if is_encrypted else "")


def remove_oldest(made: Path, *, keep: int) -> list[Path]:
    """Remove the oldest backups beside `made` so that `keep` are left with it, and return them.

    The one that was just made stays whatever the clock says.
    """
    others = sorted(_backups_beside(made), key=lambda path: (_made_at(path), path.name))
    too_many = others[: max(0, len(others) - keep + _is_named(made))]
    for path in too_many:
        path.unlink()
    return too_many


def from_the_future(made: Path, now: datetime) -> list[Path]:
    """Return the backups beside `made` that say they were made later than `now`: a clock was wrong, or is."""
    return [path for path in _backups_beside(made) if _made_at(path) > now]


def remove_unfinished(folder: Path, now: datetime) -> list[Path]:
    """Remove what backups left that were killed, once it is old, and return it; what cannot be removed stays."""
    found = [path for path in _files(folder) if _UNFINISHED.fullmatch(path.name)]
    removed = []
    for path in found:
        with suppress(OSError):
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if now - changed > UNFINISHED_FOR and (path.stat().st_size == 0 or _begins_like_one(path)):
                path.unlink()
                removed.append(path)
    return removed


def _backups_beside(made: Path) -> list[Path]:
    return [
        path
        for path in _files(made.parent)
        if path.name != made.name and _is_named(path) and _begins_like_one(path)
    ]


def _files(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]


def _is_named(path: Path) -> bool:
    return _time_named(path) is not None


def _time_named(path: Path) -> datetime | None:
    named = _NAME.fullmatch(path.name)
    if named is None:
        return None
    try:
        return datetime.strptime(named[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _begins_like_one(path: Path) -> bool:
    """Tell a backup by how it begins: a file that only has such a name is somebody else's."""
    with path.open("rb") as file:
        start = file.read(100)
    return start.startswith(MAGIC) or start.startswith(FIRST.encode() + b"\0")


def _made_at(path: Path) -> datetime:
    """Return when a backup says it was made; of an encrypted or damaged one only the name says it."""
    try:
        _, content = next(read_parts(path, None))
        return datetime.fromisoformat(read_heading(content).made_at).astimezone(UTC)
    except (OperationError, ValueError):
        return _time_named(path) or datetime.max.replace(tzinfo=UTC)
