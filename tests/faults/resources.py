"""What a process holds: open files, threads, and connections that the other side closed long ago."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CLOSE_WAIT = "08"  # the kernel's number for: the other side has closed, we have not
KINDS = ("files", "threads", "half-closed connections")


@dataclass(frozen=True)
class Held:
    """How much of one kind a process held before and after; `allowed` is by how much it may have grown."""

    process: str
    what: str
    before: int
    after: int
    allowed: int


def held_by(pid: int) -> dict[str, int]:
    """Return how much of each kind the process holds now."""
    process = Path(f"/proc/{pid}")
    files = list((process / "fd").iterdir())
    threads = len(list((process / "task").iterdir()))
    closing = _half_closed(process, {_target(file) for file in files})
    return dict(zip(KINDS, (len(files), threads, closing), strict=True))


def compared(
    before: Mapping[str, Mapping[str, int]],
    after: Mapping[str, Mapping[str, int]],
    *,
    allowed: Mapping[str, int],
) -> list[Held]:
    """Compare what the same processes held at two times."""
    return [
        Held(process, kind, count, after[process][kind], allowed[kind])
        for process, counts in before.items()
        for kind, count in counts.items()
    ]


def _half_closed(process: Path, held: set[str]) -> int:
    lines = (process / "net" / "tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(1 for row in rows if row[3] == CLOSE_WAIT and f"socket:[{row[9]}]" in held)


def _target(file: Path) -> str:
    try:
        return os.readlink(file)  # noqa: PTH115 - of a socket it is no path
    except FileNotFoundError:
        return ""
