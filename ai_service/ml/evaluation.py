"""How well probabilities tell fraud from the rest, in numbers. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class CalibrationRow:
    """Of the transactions with probabilities in [lower, upper): how many, what was said, what was true."""

    lower: float
    upper: float
    count: int
    mean_probability: float | None
    fraud_rate: float | None


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one slice of time; `bands` is a calibration table at the policy's cuts."""

    rows: int
    frauds: int
    roc_auc: float
    average_precision: float
    recall_at_1_percent_fpr: float
    brier: float
    calibration_error: float
    calibration: tuple[CalibrationRow, ...]
    bands: tuple[CalibrationRow, ...]
    recall_by_scenario: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """Return the metrics as JSON values."""
        found = asdict(self)
        return {**found, "calibration": list(found["calibration"]), "bands": list(found["bands"])}


class OneClassError(Exception):
    """There is no fraud, or nothing but fraud, among the rows: nothing can be measured."""


def evaluate(
    probabilities: Floats, is_fraud: Booleans, *, cuts: Sequence[float], scenarios: Sequence[str] = ()
) -> Evaluation:
    """Measure probabilities of shape (rows,) against the truth; raises `OneClassError`.

    `cuts` are the policy's; `scenarios` names the story of each row where rows are simulated.
    """
    if is_fraud.all() or not is_fraud.any():
        raise OneClassError("The rows to measure hold only one class.")
    table = calibration_table(probabilities, is_fraud, edges=np.linspace(0, 1, 11).tolist())
    return Evaluation(
        rows=len(is_fraud),
        frauds=int(is_fraud.sum()),
        roc_auc=float(roc_auc_score(is_fraud, probabilities)),
        average_precision=float(average_precision_score(is_fraud, probabilities)),
        recall_at_1_percent_fpr=recall_at_fpr(probabilities, is_fraud, fpr=0.01),
        brier=float(brier_score_loss(is_fraud, probabilities)),
        calibration_error=expected_calibration_error(table),
        calibration=table,
        bands=calibration_table(probabilities, is_fraud, edges=[0.0, *cuts, 1.0]),
        recall_by_scenario=recall_by_scenario(probabilities, is_fraud, scenarios, cut=cuts[0]),
    )


def recall_at_fpr(probabilities: Floats, is_fraud: Booleans, *, fpr: float) -> float:
    """Return the largest share of frauds that a threshold finds while flagging at most `fpr` of the rest."""
    false_positive_rates, recalls, _ = roc_curve(is_fraud, probabilities, drop_intermediate=False)
    return float(recalls[false_positive_rates <= fpr].max())


def calibration_table(
    probabilities: Floats, is_fraud: Booleans, *, edges: Sequence[float]
) -> tuple[CalibrationRow, ...]:
    """Return one row for each interval between `edges`; the last one includes its upper edge."""
    which = np.searchsorted(edges[1:-1], probabilities, side="right")
    rows = []
    for index, (lower, upper) in enumerate(pairwise(edges)):
        inside = which == index
        count = int(inside.sum())
        mean = float(probabilities[inside].mean()) if count else None
        rate = float(is_fraud[inside].mean()) if count else None
        rows.append(CalibrationRow(float(lower), float(upper), count, mean, rate))
    return tuple(rows)


def expected_calibration_error(table: Sequence[CalibrationRow]) -> float:
    """Return the mean distance between what was said and what was true, weighted by rows."""
    total = sum(row.count for row in table)
    gaps = [
        row.count * abs(row.mean_probability - row.fraud_rate)
        for row in table
        if row.mean_probability is not None and row.fraud_rate is not None
    ]
    return sum(gaps) / total


def recall_by_scenario(
    probabilities: Floats, is_fraud: Booleans, scenarios: Sequence[str], *, cut: float
) -> dict[str, float]:
    """Return the share of each kind of fraud whose probability reaches `cut`."""
    names = np.array(scenarios, dtype=str)
    return {
        str(name): float((probabilities[names == name] >= cut).mean())
        for name in np.unique(names[is_fraud] if len(names) else names)
    }
