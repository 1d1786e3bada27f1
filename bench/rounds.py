"""Closed-loop rounds: every target at every number of connections, one after the other, several times over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.errors import BenchError
from bench.machine import Cores, cpu_by_name
from bench.targets import Target
from bench.wrk import WrkRun, run_wrk

WARM_UP_S = 1
MAX_FILL_RUNS = 120  # enough for a whole day of the stream, also on a slow machine


@dataclass(frozen=True)
class Measured:
    """One run of one target. CPU in microseconds for each acknowledged request, by process; cores used, by process."""

    target: str
    connections: int
    run: WrkRun
    cpu_us: Mapping[str, float]
    cores_used: Mapping[str, float]
    mean_batch: float | None
    saved: int | None
    flagged: int | None
    drained_s: float

    @property
    def lost(self) -> int:
        """Return how many acknowledged transactions are not in the database."""
        return 0 if self.saved is None else max(0, self.run.acknowledged - self.saved)


@dataclass
class Rounds:
    """All runs, and the numbering that gives every transaction of every run its own id."""

    folder: Path
    cores: Cores
    say: Callable[[str], None]
    found: list[Measured] = field(default_factory=list)
    _tags: int = 0

    def next_tag(self) -> str:
        """Return a tag that no other run has."""
        self._tags += 1
        return f"b{self._tags:04d}"

    def fill_caches(self, target: Target) -> None:
        """Send one day of the stream, so that addresses are known and customers have a past."""
        for _ in range(MAX_FILL_RUNS):
            if target.stream.position >= len(target.stream.templates):
                break
            self._wrk(target, connections=128, seconds=2)
        target.settle()

    def run(self, targets: Sequence[Target], *, rounds: int, seconds: float) -> None:
        """Measure; raises `BenchError`."""
        for number in range(rounds):
            for connections in sorted({count for target in targets for count in target.connections}):
                for target in targets:
                    if connections in target.connections:
                        measured = self.measure(target, connections=connections, seconds=seconds)
                        self.found.append(measured)
                        self.say(f"round {number + 1}/{rounds}: {_line(measured)}")

    def load(self, target: Target, *, connections: int, seconds: float) -> None:
        """Send payments for so long, measured by somebody else."""
        self._wrk(target, connections=connections, seconds=seconds)
        target.settle()

    def rates(self, target: str, connections: int) -> list[float]:
        """Return the acknowledged requests a second of each round."""
        return [
            each.run.rate for each in self.found if (each.target, each.connections) == (target, connections)
        ]

    def rate(self, target: str, connections: int) -> float | None:
        """Return the median of `rates`; None when nothing was measured."""
        rates = self.rates(target, connections)
        return median(rates) if rates else None

    def measure(self, target: Target, *, connections: int, seconds: float) -> Measured:
        """Measure one run, after a second of warm-up; raises `BenchError`."""
        self._wrk(target, connections=connections, seconds=WARM_UP_S)
        items, batches = target.batches()
        before = cpu_by_name(target.pids)
        run = self._wrk(target, connections=connections, seconds=seconds)
        if run.acknowledged == 0:
            raise BenchError(f"{target.name} acknowledged nothing: {run}")
        used = {name: after - before[name] for name, after in cpu_by_name(target.pids).items()}
        used["wrk"] = run.client_cpu_s
        items_after, batches_after = target.batches()
        drained_s = target.settle()
        return Measured(
            target=target.name,
            connections=connections,
            run=run,
            cpu_us={name: 1e6 * spent / run.acknowledged for name, spent in used.items()},
            cores_used={name: spent / run.seconds for name, spent in used.items()},
            mean_batch=(items_after - items) / (batches_after - batches) if batches_after > batches else None,
            saved=target.saved(run.tag),
            flagged=target.flagged(run.tag),
            drained_s=drained_s,
        )

    def _wrk(self, target: Target, *, connections: int, seconds: float) -> WrkRun:
        head_file = self.folder / "head"
        head_file.write_bytes(target.head())
        return run_wrk(
            target.url,
            target.stream,
            tag=self.next_tag(),
            head_file=head_file,
            connections=connections,
            seconds=seconds,
            core=self.cores.others,
        )


def _line(measured: Measured) -> str:
    run = measured.run
    odd = f", {run.refused} refused, {run.unanswered} unanswered" if run.refused or run.unanswered else ""
    return (
        f"{measured.target} at {measured.connections}: {run.rate:,.0f}/s, p50 {run.p50_ms:.2f} ms, "
        f"p99 {run.p99_ms:.2f} ms{odd}; drained in {measured.drained_s:.1f} s"
    )
