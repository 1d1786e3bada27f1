"""Where ai_service's time goes under load, by sampling it from outside with py-spy (which `make bench` does not need)."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError
from bench.figures import Figure
from local_stack.child import PROJECT

SAMPLES_PER_S = 250
MOST = 25
GRACE_S = 30
LIBRARIES = "site-packages/"
_OURS = tuple(
    f"{package.name}/" for package in sorted(PROJECT.iterdir()) if (package / "__init__.py").exists()
)


@contextmanager
def sampling(pid: int, output: Path, *, seconds: float) -> Iterator[None]:
    """Sample the process while the block runs and write its collapsed stacks to `output`; raises `BenchError`."""
    found = shutil.which("py-spy")
    if found is None:
        raise BenchError(
            "py-spy is not on the PATH. To have it: pip install py-spy, into an environment of its own."
        )
    command = [found, "record", "--pid", str(pid), "--duration", str(max(1, round(seconds)))]
    # only threads that run Python just then: py-spy takes waiting in C for work
    command += ["--gil", "--rate", str(SAMPLES_PER_S), "--format", "raw", "--full-filenames"]
    command += ["--output", str(output)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        yield
        _, said = process.communicate(timeout=seconds + GRACE_S)
    if not output.exists():
        raise BenchError(f"py-spy could not sample the process: {said.strip()}")


def profile_figures(stacks: str) -> Iterator[Figure]:
    """Yield the share of each part of the program in `stacks`, the greatest first."""
    counts = count_places(stacks)
    total = sum(counts.values())
    for place, count in counts.most_common(MOST):
        yield Figure(f"profile {place}", 100 * count / total, "% of samples")


def count_places(stacks: str) -> Counter[str]:
    """Count samples by the innermost frame that is in the project, or by its library where none is."""
    counts: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        counts[_place(frames)] += int(count)
    return counts


def _place(frames: list[str]) -> str:
    for innermost_first in (_ours, _library):
        for frame in reversed(frames):
            if place := innermost_first(frame):
                return place
    return "Python itself"


def _ours(frame: str) -> str | None:
    """Return e.g. `common/batches.py run` for a frame written as `run (/somewhere/common/batches.py:12)`."""
    name, _, place = frame.partition(" (")
    path = place.partition(":")[0]
    if LIBRARIES in path:
        return None
    for package in _OURS:
        _, found, rest = path.rpartition(f"/{package}")
        if found:
            return f"{package}{rest} {name}"
    return None


def _library(frame: str) -> str | None:
    _, found, rest = frame.partition(LIBRARIES)
    return f"library {rest.partition('/')[0]}" if found else None
