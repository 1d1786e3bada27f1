"""The machine that is measured on: its cores, what processes use of them, whether it is quiet, and its disk."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.quantiles import quantiles

LOCK = Path(tempfile.gettempdir()) / "assay-bench.lock"
QUIET_IDLE_SHARE = 0.9
LOOK_S = 2.0
WRITES = 300
PAGE = bytes(4096)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Which core serves what is measured, and which takes everything else: clients and the other services."""

    server: int
    others: int

    @property
    def are_apart(self) -> bool:
        """Whether the client takes nothing from the server."""
        return self.server != self.others


def choose_cores() -> Cores:
    """Return the first two cores this process may use; with a single one, client and server share it."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1] if len(usable) > 1 else usable[0])


def pin(pid: int, core: int) -> None:
    """Keep a process and those below it, with all their threads, on one core; what they start later inherits that."""
    for each in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            for thread in Path(f"/proc/{each}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})


def family(pid: int) -> list[int]:
    """Return a process and all below it: a server's workers are processes too."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [each for child in children.read_text().split() for each in family(int(child))]
    return found


def cpu_seconds(pid: int) -> float:
    """Return how much CPU time a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def cpu_by_name(pids: Mapping[str, int]) -> dict[str, float]:
    """Return how much CPU time each process and those below it have used, also those that have ended."""
    return {name: sum(map(_with_ended_children, family(pid))) for name, pid in pids.items()}


def _with_ended_children(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it ended a moment ago
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def idle_share(seconds: float = LOOK_S) -> float:
    """Return which share of the machine's CPU time nobody wants, looking for that long."""
    first = _idle_and_all()
    time.sleep(seconds)
    second = _idle_and_all()
    passed = second[1] - first[1]
    return (second[0] - first[0]) / passed if passed else 1.0


def fdatasync_ms(folder: Path) -> float:
    """Return the median time to append 4 KB to a file in `folder` and make it durable."""
    folder.mkdir(parents=True, exist_ok=True)
    took = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".fdatasync-") as file:
        for _ in range(WRITES):
            started = time.perf_counter()
            os.write(file.fileno(), PAGE)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - started) * 1000)
    return quantiles(took).p50


@contextmanager
def alone(lock: Path = LOCK) -> Iterator[None]:
    """Hold the lock of all benches on this machine; raises `BenchError` when another one runs."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BenchError(f"Another bench runs on this machine ({lock} is locked).") from None
        yield


def _idle_and_all() -> tuple[int, int]:
    line = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")[0]
    fields = [int(field) for field in line.split()[1:9]]
    return fields[3] + fields[4], sum(fields)
