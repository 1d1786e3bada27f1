"""Quantiles of what was measured. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How a number of measured values lie; all of them NaN when nothing was measured."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    worst: float


def quantiles(values: Sequence[float] | NDArray[np.float64]) -> Quantiles:
    """Return the quantiles of `values`, each a value that was measured: the smallest that is not exceeded by more."""
    found = np.sort(np.asarray(values, dtype=np.float64))
    if len(found) == 0:
        nothing = float("nan")
        return Quantiles(0, nothing, nothing, nothing, nothing, nothing)
    p50, p90, p99, p999 = np.quantile(found, [0.5, 0.9, 0.99, 0.999], method="inverted_cdf")
    return Quantiles(len(found), float(p50), float(p90), float(p99), float(p999), float(found[-1]))
