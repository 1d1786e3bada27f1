"""The whole fault matrix: every dependency, every fault, one stack.

    python -m tests.faults.matrix --baseline-s 20 --fault-s 20 --results var/faults

prints a table and leaves there `results.jsonl` with a line for each cell, and the history of each cell. It ends with 1
when a cell does not pass. Latency ratios are printed and decide nothing: they are this machine's.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from local_stack.settings import Stores
from tests.faults.cells import (
    FAULTS,
    LOOK_S,
    MAIL_FAULTS,
    P99_LIMIT,
    CellResult,
    Phases,
    Trouble,
    latencies,
    mail_trouble,
    network_trouble,
    run_cell,
)
from tests.faults.evidence import Evidence
from tests.faults.history import write_history
from tests.faults.invariants import Breach, Case, nothing_is_held
from tests.faults.resources import KINDS, compared
from tests.faults.stack import REACHED_BY, FaultyStack, faulty_stack

NETWORK = [network_trouble(dependency, fault) for dependency in REACHED_BY for fault in FAULTS]
MAIL = [mail_trouble(fault) for fault in MAIL_FAULTS]
# on PostgreSQL and Valkey every dependency is still reached over the same connections by the same code; what differs is
# where that which could not be told waits, so each dependency goes away once, and mails are taken without a word once
ON_SERVERS = [
    *(network_trouble(dependency, "down") for dependency in REACHED_BY),
    mail_trouble("drop after DATA"),
]
LEAST_ACKNOWLEDGED = 0.99
HELD_BACK = frozenset({"s3", "smtp"})  # whose faults are seen by what waits for them
GEO_MORE_MS = 5.0  # what the test plan lets a transaction wait longer while locations are away
GEO = "external_apis_services"
REST_S = 5.0
# pools keep some connections and threads; a leak takes one for each of the hundreds of requests of a cell
MAY_GROW_BY = dict(zip(KINDS, (40, 12, 4), strict=True))


class Matrix:
    """Runs cells on one stack; the first of each dependency measures the others' baseline."""

    def __init__(self, stack: FaultyStack) -> None:
        self.results: list[CellResult] = []
        self._stack = stack
        self._baselines: dict[str, list[float]] = {}
        self._at_rest: dict[str, dict[str, int]] = {}

    def run(self, trouble: Trouble, phases: Phases) -> CellResult:
        """Run one cell and remember what it came to."""
        before = self._baselines.get(trouble.dependency, [])
        result = asyncio.run(run_cell(self._stack, trouble, phases, baseline=before))
        if not before:
            self._baselines[trouble.dependency] = latencies(result.history, "before")
        if not self._at_rest:
            self._at_rest = self._stack.held()
        result = replace(result, breaches=[*result.breaches, *self._still_held()])
        self.results.append(result)
        return result

    def _still_held(self) -> list[Breach]:
        """Return what is held beyond what was held after the first cell, once it had time to be let go."""
        deadline = time.monotonic() + REST_S
        while True:
            held = compared(self._at_rest, self._stack.held(), allowed=MAY_GROW_BY)
            found = list(nothing_is_held(Case([], Evidence(), held=held)))
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_S)


def shortcomings(result: CellResult) -> list[str]:
    """Return what a cell was to show and did not."""
    found = [str(breach) for breach in result.breaches]
    if result.acknowledged < LEAST_ACKNOWLEDGED * result.sent:
        found.append(f"only {result.acknowledged} of {result.sent} were answered with a decision")
    if result.drained_s is None:
        found.append("something still waits, long after the fault's end")
    if not result.recovered:
        found.append("decisions still say that something is away, long after the fault's end")
    if result.dependency in HELD_BACK and not result.waiting_at_end:
        found.append("nothing waited at the end of the fault: it was none")
    seen, all_of = _visible(result)
    if seen < all_of:
        found.append(f"{result.dependency} was away, and {seen} of {all_of} decisions say so")
    return found


def table(results: Iterable[CellResult]) -> Table:
    """Return the figures of all cells."""
    shown = Table(title="Fault matrix: 50 requests a second; latencies of new decisions in ms")
    shown.add_column("dependency")
    shown.add_column("fault")
    for heading in (
        *("decided", "of", "503", "p50 before", "p50 during", "p99 before", "p99 during", "ratio", "holds"),
        *("says so", "of", "waiting", "drained s", "breaches"),
    ):
        shown.add_column(heading, justify="right")
    for result in results:
        shown.add_row(*map(str, _row(result)))
    return shown


def holds(result: CellResult) -> bool:
    """Return whether the p99 is within what the test plan asks."""
    slack = GEO_MORE_MS if result.dependency == GEO else 0.0
    before, during = result.baseline_ms[1], result.during_ms[1]
    return during <= max(before * P99_LIMIT, before + slack)


def _row(result: CellResult) -> Sequence[object]:
    (p50, p99), (p50_during, p99_during) = result.baseline_ms, result.during_ms
    seen, all_of = _visible(result)
    return (
        *(result.dependency, result.fault, result.acknowledged, result.sent, result.turned_away),
        *(f"{p50:.1f}", f"{p50_during:.1f}", f"{p99:.1f}", f"{p99_during:.1f}", f"{result.ratio:.2f}"),
        "yes" if holds(result) else "no",
        *(seen, all_of, result.waiting_at_end),
        "never" if result.drained_s is None else result.drained_s,
        len(result.breaches),
    )


def _visible(result: CellResult) -> tuple[int, int]:
    """Return how many decisions show that the dependency was away, and how many should."""
    if result.dependency == GEO:
        return result.degraded.get("geoip", 0), result.fresh
    if result.dependency == "alert_service":
        return result.pending_alerts, result.flagged
    if result.dependency == "log_service":
        return result.pending_audits, result.fresh
    return 0, 0


def main() -> int:
    """Run what the command line asks for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description=__doc__)
    parser.add_argument("--baseline-s", type=float, default=20.0)
    parser.add_argument("--fault-s", type=float, default=20.0)
    parser.add_argument("--stores", type=Stores, default=Stores.EMBEDDED, help="embedded or servers")
    parser.add_argument("--results", type=Path, required=True)
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    console, failed = Console(width=200), 0
    with (
        tempfile.TemporaryDirectory() as folder,
        faulty_stack(Path(folder) / "var", stores=options.stores) as stack,
        (options.results / "results.jsonl").open("w") as file,
    ):
        matrix = Matrix(stack)
        phases = Phases(baseline_s=options.baseline_s, fault_s=options.fault_s)
        for trouble in (*NETWORK, *MAIL):
            result = matrix.run(trouble, phases)
            file.write(result.to_json() + "\n")
            file.flush()
            history = options.results / f"{trouble.dependency}-{trouble.name.replace(' ', '-')}.jsonl"
            history.unlink(missing_ok=True)
            write_history(history, result.history)
            found = shortcomings(result)
            if not holds(result):
                found.append(f"p99 during the fault was {result.ratio:.2f} times what it was before")
            failed += bool(found)
            console.print(
                f"{trouble.dependency}, {trouble.name}: {'; '.join(found) or 'passed'}", style="dim"
            )
        console.print(table(matrix.results))
    console.print(f"{len(matrix.results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
