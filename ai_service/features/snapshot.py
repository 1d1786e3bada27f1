"""The velocity state on disk: written whole and atomically, read back or refused."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from ai_service.features.store import STATE_VERSION, StateArrays
from common.ids import new_id

ARRAYS = ("table", "slots", "events", "buckets", "seen", "counters")


class SnapshotRefusedError(Exception):
    """The file is missing, damaged, or of another version; the state is rebuilt from the database instead."""


@dataclass(frozen=True)
class Snapshot:
    """The state, and for each institution the decision sequence up to which it surely holds everything."""

    state: StateArrays
    positions: Mapping[str, int]


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the file at `path`; a crash leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{new_id('partial')}")
    header = {
        "version": STATE_VERSION,
        "positions": snapshot.positions,
        "sequences": snapshot.state.sequences,
    }
    with partial.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
            **{name: getattr(snapshot.state, name) for name in ARRAYS},
        )
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for abandoned in path.parent.glob(f"{path.stem}.partial_*"):
        if abandoned.stat().st_mtime < path.stat().st_mtime:
            abandoned.unlink(missing_ok=True)


def read_snapshot(path: Path) -> Snapshot:
    """Return what is at `path`; raises `SnapshotRefusedError`."""
    try:
        with path.open("rb") as file:
            return _read(file)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError) as error:
        raise SnapshotRefusedError(type(error).__name__) from error


def _read(file: BinaryIO) -> Snapshot:
    with np.load(file, allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
        if header["version"] != STATE_VERSION:
            raise SnapshotRefusedError("it has another version")
        found = {name: np.ascontiguousarray(arrays[name]) for name in ARRAYS}
    if any(array.dtype != np.int64 for array in found.values()):
        raise SnapshotRefusedError("it has another type of numbers")
    return Snapshot(StateArrays(**found, sequences=header["sequences"]), header["positions"])
