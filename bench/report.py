"""The bench's tables for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.figures import Better, Figure
from bench.rounds import Measured

_VERDICTS = {True: "[green]holds[/green]", False: "[red]misses[/red]", None: ""}


@dataclass(frozen=True)
class Merged:
    """The rounds of one target at one number of connections, as one line."""

    target: str
    connections: int
    rate: float
    low: float
    high: float
    p50_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]
    cores_used: Mapping[str, float]
    mean_batch: float | None
    acknowledged: int
    saved: int | None
    flagged: int | None
    refused: int
    unanswered: int
    lost: int


def merge(runs: Sequence[Measured]) -> list[Merged]:
    """Join the rounds of each target and number of connections: medians, and sums of what is counted."""
    groups: dict[tuple[str, int], list[Measured]] = {}
    for each in runs:
        groups.setdefault((each.target, each.connections), []).append(each)
    return [_merged(*key, group) for key, group in groups.items()]


def show_rounds(console: Console, merged: Sequence[Merged]) -> None:
    """Print what each target did."""
    table = Table(
        "target", "conn.", "req/s", "min-max", "p50 ms", "p99 ms", "batch", "flagged", "acknowledged", "lost",
        title="Closed loop (wrk)", title_justify="left",
    )  # fmt: skip
    for row in merged:
        share = "" if row.flagged is None or not row.saved else f"{row.flagged / row.saved:.2%}"
        odd = row.refused + row.unanswered
        table.add_row(
            *(row.target, str(row.connections), f"{row.rate:,.0f}", f"{row.low:,.0f}-{row.high:,.0f}"),
            *(f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}"),
            "" if row.mean_batch is None else f"{row.mean_batch:.1f}",
            share,
            f"{row.acknowledged:,}" + (f" [red](+{odd:,} others)[/red]" if odd else ""),
            "" if row.saved is None else str(row.lost),
        )
    console.print(table)
    table = Table(
        "target", "conn.", "CPU us a request", "cores used", title="By process", title_justify="left"
    )
    for row in merged:
        table.add_row(
            row.target, str(row.connections), _listed(row.cpu_us, "{:.0f}"), _listed(row.cores_used, "{:.2f}")
        )
    console.print(table)


def show_figures(console: Console, figures: Sequence[Figure]) -> None:
    """Print every figure and whether what is asked of it holds."""
    table = Table(
        "figure", "value", "min-max", "asked", "aim", "", "note", title="Figures", title_justify="left"
    )
    for figure in figures:
        sign = "" if figure.aim is None else "≥" if figure.aim.better is Better.HIGHER else "≤"
        table.add_row(
            figure.name,
            f"{_number(figure.value)} {figure.unit}",
            ""
            if figure.low is None or figure.high is None
            else f"{_number(figure.low)}-{_number(figure.high)}",
            "" if figure.aim is None else f"{sign} {_number(figure.aim.target)}",
            "" if figure.aim is None or figure.aim.aim is None else f"{sign} {_number(figure.aim.aim)}",
            _VERDICTS[figure.holds],
            figure.note,
        )
    console.print(table)


def _merged(target: str, connections: int, runs: Sequence[Measured]) -> Merged:
    rates = [each.run.rate for each in runs]
    batches = [each.mean_batch for each in runs if each.mean_batch is not None]
    return Merged(
        target=target,
        connections=connections,
        rate=median(rates),
        low=min(rates),
        high=max(rates),
        p50_ms=median(each.run.p50_ms for each in runs),
        p99_ms=median(each.run.p99_ms for each in runs),
        cpu_us=_medians([each.cpu_us for each in runs]),
        cores_used=_medians([each.cores_used for each in runs]),
        mean_batch=median(batches) if batches else None,
        acknowledged=sum(each.run.acknowledged for each in runs),
        saved=_sum([each.saved for each in runs]),
        flagged=_sum([each.flagged for each in runs]),
        refused=sum(each.run.refused for each in runs),
        unanswered=sum(each.run.unanswered for each in runs),
        lost=sum(each.lost for each in runs),
    )


def _medians(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(found[name] for found in each) for name in each[0]}


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _listed(values: Mapping[str, float], form: str) -> str:
    seen = {name.removesuffix("_service").removesuffix("_services"): value for name, value in values.items()}
    return ", ".join(f"{name} {form.format(value)}" for name, value in seen.items() if value >= 0.005)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
