"""The yardsticks of design.md section 6: `python -m bench --help`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import report
from bench.errors import BenchError
from bench.figures import Figure, append
from bench.machine import QUIET_IDLE_SHARE, alone, choose_cores, idle_share
from bench.parts.all import part_figures
from bench.run import EVERYTHING, OVER_HTTP, QUICK, WHOLE, Bench, Row
from common.clock import utc_now
from local_stack.errors import StackError
from local_stack.running import stop_on_signals

RESULTS = Path(__file__).with_name("results.jsonl")
HOME = Path("var/bench")
INTERRUPTED = 130
WIDTH = 160  # of tables that go to a file


def main(
    *,
    rows: Annotated[
        str, typer.Option("--only", help=f"what to measure, separated by commas or blanks: {', '.join(Row)}")
    ] = "",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="one short round, without overload unless it is named: for trying, not for figures",
        ),
    ] = False,
) -> None:
    """Measure the product against its yardsticks; ends with 1 when something that is asked for misses."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    stop_on_signals()
    try:
        with alone():
            figures = _measure(console, _rows(rows, is_quick=quick), is_quick=quick)
    except (BenchError, StackError) as error:
        console.print(str(error), style="bold red", markup=False, soft_wrap=True)
        for line in getattr(error, "details", []):
            console.print(f"  {line}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(1 if any(figure.holds is False for figure in figures) else 0)


def _measure(console: Console, rows: frozenset[Row], *, is_quick: bool) -> list[Figure]:
    cores = choose_cores()
    idle = idle_share()
    noisy = idle < QUIET_IDLE_SHARE or not cores.are_apart
    console.print(
        f"Idle before the start: {idle:.0%}; core {cores.server} serves, core {cores.others} does the rest"
    )
    if noisy:
        console.print(
            "This machine is not quiet: the figures are marked noisy and mean little.", style="yellow"
        )
    started = utc_now().isoformat(timespec="seconds")

    def say(text: str) -> None:
        console.print(text, style="dim")

    bench = Bench(HOME, cores, QUICK if is_quick else WHOLE, rows, say)
    figures: list[Figure] = []
    try:
        if Row.PARTS in rows:
            figures.extend(part_figures(HOME, core=cores.server, is_quick=is_quick, say=say))
        if rows & OVER_HTTP:
            figures.extend(bench.figures())
    finally:
        if bench.rounds.found:
            report.show_rounds(console, report.merge(bench.rounds.found))
        report.show_figures(console, figures)
        append(RESULTS, figures, run=started, noisy=noisy, quick=is_quick, idle_share=round(idle, 3))
        console.print(f"Written to {os.path.relpath(RESULTS)}")
    return figures


def _rows(text: str, *, is_quick: bool) -> frozenset[Row]:
    """Return what is named; without names everything, but for overload when it is to be quick."""
    names = text.replace(",", " ").split()
    try:
        named = frozenset(Row(name) for name in names)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; there are: {', '.join(Row)}") from None
    return named or EVERYTHING - ({Row.OVERLOAD} if is_quick else set())


if __name__ == "__main__":
    typer.run(main)
