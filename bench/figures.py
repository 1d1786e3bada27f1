"""Figures: what was measured, against what, and whether it holds. Pure but for `append`."""

from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from statistics import median
from typing import Any

import orjson


class Better(Enum):
    """Which way a figure should go."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True)
class Aim:
    """What design.md asks of a figure: `target` must hold, `aim` is where it should go."""

    better: Better
    target: float
    aim: float | None = None

    def met_by(self, value: float) -> bool:
        """Say whether `target` holds; a value that is no number never does."""
        return value >= self.target if self.better is Better.HIGHER else value <= self.target


@dataclass(frozen=True)
class Figure:
    """One measured figure. `baseline` is what it was compared with, in its own unit; `low` and `high` its spread."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    aim: Aim | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Say whether what is asked of it holds; None when nothing is."""
        return None if self.aim is None else self.aim.met_by(self.value)

    def as_line(self, **context: Any) -> bytes:  # noqa: ANN401 - any JSON values
        """Return the figure as a JSON line; `context` says which run it belongs to."""
        fields = {name: value for name, value in asdict(self).items() if name != "aim"}
        target, aim = (None, None) if self.aim is None else (self.aim.target, self.aim.aim)
        return orjson.dumps({**fields, "target": target, "aim": aim, "holds": self.holds, **context}) + b"\n"


def spread(name: str, values: list[float], unit: str, **more: Any) -> Figure:  # noqa: ANN401 - as `Figure` takes them
    """Return the median of several rounds as a figure with its least and its greatest value."""
    return Figure(name, median(values), unit, low=min(values), high=max(values), **more)


def append(path: Path, figures: list[Figure], **context: Any) -> None:  # noqa: ANN401 - any JSON values
    """Add a line for each figure."""
    with path.open("ab") as file:
        file.writelines(figure.as_line(**context) for figure in figures)
