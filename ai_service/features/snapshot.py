"""The velocity state on disk: written whole and atomically, read back or refused."""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ai_service.features import kernel
from ai_service.features.state import POOLS, StateArrays, Unsaved
from ai_service.features.velocity import Entity, Reading, VelocityReading
from common.failpoints import failpoint
from common.ids import new_id

STATE_VERSION = 2
ARRAYS = (*POOLS, "counters")
UNSAVED = "unsaved"
_PIECE_BYTES = 1 << 20


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
    with partial.open("wb") as file:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            for name, array in _parts(snapshot):
                _write_array(archive, name, array)
        file.flush()
        os.fsync(file.fileno())
    failpoint("velocity.before_snapshot")
    partial.replace(path)
    for abandoned in path.parent.glob(f"{path.stem}.partial_*"):
        if abandoned.stat().st_mtime < path.stat().st_mtime:
            abandoned.unlink(missing_ok=True)


def read_snapshot(path: Path) -> Snapshot:
    """Return what is at `path`; raises `SnapshotRefusedError`."""
    try:
        with path.open("rb") as file:
            return _read(file)
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile, EOFError) as error:
        raise SnapshotRefusedError(type(error).__name__) from error


def _parts(snapshot: Snapshot) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of the file by name; `header` is JSON, `unsaved` has the readings the header lists."""
    state = snapshot.state
    header = {
        "version": STATE_VERSION,
        "positions": snapshot.positions,
        "sequences": state.sequences,
        "unsaved": [
            [*name, each.body.hex(), each.reading.observed_sequence, each.reading.counted]
            for name, each in state.unsaved.items()
        ],
    }
    yield "header", np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    readings = [each.reading.values for each in state.unsaved.values()]
    yield UNSAVED, np.array(readings, dtype=np.int64).reshape(-1, len(Entity), len(Reading))
    for name in ARRAYS:
        yield name, getattr(state, name)


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """Write as `np.savez` does, but in small pieces: copying a large one would hold up the whole process."""
    content = np.ascontiguousarray(array)
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(content))
        if content.size:
            view = content.data.cast("B")
            for begin in range(0, len(view), _PIECE_BYTES):
                file.write(view[begin : begin + _PIECE_BYTES])


def _read(file: BinaryIO) -> Snapshot:
    with np.load(file, allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
        if header["version"] != STATE_VERSION:
            raise SnapshotRefusedError("it has another version")
        found = {name: np.ascontiguousarray(arrays[name]) for name in (*ARRAYS, UNSAVED)}
    if any(array.dtype != np.int64 for array in found.values()):
        raise SnapshotRefusedError("it has another type of numbers")
    readings = found.pop(UNSAVED)
    if len(found["counters"]) != kernel.COUNTERS or len(readings) != len(header["unsaved"]):
        raise SnapshotRefusedError("its parts do not belong together")
    unsaved = {
        (institution_id, transaction_id): Unsaved(
            bytes.fromhex(digest), True, VelocityReading(values.copy(), sequence, counted)
        )
        for (institution_id, transaction_id, digest, sequence, counted), values in zip(
            header["unsaved"], readings, strict=True
        )
    }
    state = StateArrays(**found, sequences=header["sequences"], unsaved=unsaved)
    return Snapshot(state, header["positions"])
