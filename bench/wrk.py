"""Runs wrk, the closed-loop client: each connection sends its next request as soon as the last one is answered."""

import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path

import orjson

from bench.errors import BenchError
from bench.stream import Stream

SCRIPT = Path(__file__).with_name("wrk.lua")
MAX_RATE = (
    60_000  # positions of the stream that are reserved for each second: more than any server here answers
)
GRACE_S = 30


@dataclass(frozen=True, slots=True)
class WrkRun:
    """What wrk saw. `acknowledged` counts 2xx (wrk counts what is above 399 apart, and nothing here redirects)."""

    tag: str
    seconds: float
    acknowledged: int
    refused: int
    unanswered: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    client_cpu_s: float

    @property
    def rate(self) -> float:
        """Return how many requests a second were acknowledged."""
        return self.acknowledged / self.seconds


def provide_wrk() -> str:
    """Return the path of wrk, installed first where that is possible; raises `BenchError`."""
    if found := shutil.which("wrk"):
        return found
    how = "wrk is not installed. On Debian or Ubuntu: apt-get install wrk; elsewhere see its home page."
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(how)
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "wrk"]):
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            raise BenchError(how)
    return provide_wrk()


def run_wrk(
    url: str,
    stream: Stream,
    *,
    tag: str,
    head_file: Path,
    connections: int,
    seconds: float,
    core: int,
) -> WrkRun:
    """Send the stream's next requests for `seconds` and return what was seen; raises `BenchError`."""
    duration = max(1, round(seconds))
    first = stream.take(duration * MAX_RATE)
    first_day = datetime.combine(stream.first_day, time(), tzinfo=UTC)
    arguments = [stream.path, head_file, tag, first, int(first_day.timestamp()), stream.days]
    command = [
        *("taskset", "-c", str(core), provide_wrk(), "-t", "1", "-c", str(connections)),
        *("-d", f"{duration}s", "--timeout", "10s", "--latency", "-s", str(SCRIPT), url, "--"),
        *map(str, arguments),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=duration + GRACE_S
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    run = read_result(finished.stdout, tag=tag, client_cpu_s=cpu_s)
    if run is None:
        raise BenchError(f"wrk failed: {finished.stderr.strip() or finished.stdout.strip()}")
    stream.position = first + run.acknowledged + run.refused + run.unanswered + connections
    return run


def read_result(output: str, *, tag: str, client_cpu_s: float) -> WrkRun | None:
    """Return what `wrk.lua` printed, or None when it printed no result."""
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return None
    found = orjson.loads(lines[-1].removeprefix("RESULT "))
    return WrkRun(
        tag=tag,
        seconds=found["seconds"],
        acknowledged=found["answers"] - found["refused"],
        refused=found["refused"],
        unanswered=found["timeouts"] + found["broken"],
        p50_ms=found["p50_ms"],
        p90_ms=found["p90_ms"],
        p99_ms=found["p99_ms"],
        client_cpu_s=client_cpu_s,
    )
