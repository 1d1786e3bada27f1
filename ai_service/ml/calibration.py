"""What a raw score means: the probability of fraud, and how sure that makes us of a band. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

PRIOR_WEIGHT = 4.0
SMALLEST = 1e-6  # a prior of exactly 0 or 1 could never be corrected
MAX_REMEMBERED = 100_000


@dataclass(frozen=True)
class ScoreBin:
    """What was seen among calibration rows with raw scores in [lower, next bin's lower)."""

    lower: float
    count: int
    frauds: int
    mean_probability: float


@dataclass(frozen=True)
class Calibration:
    """fraud_probability = sigmoid(slope * raw + intercept), and the bins that say how well it is known.

    `slope` is positive, so the order of scores is kept; the first bin starts at -inf.
    """

    slope: float
    intercept: float
    bins: tuple[ScoreBin, ...]

    def __post_init__(self) -> None:
        lowers = [found.lower for found in self.bins]
        if not self.slope > 0:
            raise ValueError("the slope must be positive")
        if not lowers or lowers[0] != -inf or any(not left < right for left, right in pairwise(lowers)):
            raise ValueError("the bins must begin at -inf and rise")
        if any(not 0 <= found.frauds <= found.count for found in self.bins):
            raise ValueError("a bin cannot hold more frauds than rows")
        if any(not 0 <= found.mean_probability <= 1 for found in self.bins):
            raise ValueError("a mean probability lies between 0 and 1")


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each log-odds, without overflow at either end."""
    odds = np.exp(-np.abs(log_odds))
    return np.where(log_odds >= 0, 1 / (1 + odds), odds / (1 + odds))


def make_bins(
    raw_scores: NDArray[np.float64],
    is_fraud: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    *,
    bins: int = 40,
) -> tuple[ScoreBin, ...]:
    """Return about `bins` bins of calibration rows, all arrays of shape (rows,).

    Frauds and legitimate rows weigh the same in total, and bins have equal mass in that weight: with 2 % fraud,
    bins equal in rows alone would put all scores that matter into the last one.
    """
    quantiles = np.linspace(0, 1, bins // 2 + 1)[1:-1]
    cuts = [
        np.quantile(raw_scores[is_fraud == kind], quantiles)
        for kind in (False, True)
        if (is_fraud == kind).any()
    ]
    lowers = np.unique(np.concatenate([[-inf], *cuts]))
    which = np.searchsorted(lowers, raw_scores, side="right") - 1
    counts = np.bincount(which, minlength=len(lowers))
    frauds = np.bincount(which[is_fraud], minlength=len(lowers))
    totals = np.bincount(which, weights=probabilities, minlength=len(lowers))
    found = np.flatnonzero(counts)
    lowers[found[0]] = -inf
    return tuple(
        ScoreBin(
            float(lowers[bin_]), int(counts[bin_]), int(frauds[bin_]), float(totals[bin_] / counts[bin_])
        )
        for bin_ in found
    )


@dataclass(frozen=True, eq=False)
class BandConfidence:
    """How sure the calibration makes us that a transaction belongs in the band it was put in.

    `cuts` part the risk into bands: below the first is band 0, from the last up is the highest. `confidence` is
    the calibrated probability that the chosen band is right: the posterior probability that, among transactions
    scored like this one, the true rate of fraud lies inside the band. "Scored like this one" are the calibration
    rows of its score bin, n of them with k frauds; the prior is Beta(p w, (1 - p) w) with p the mean calibrated
    probability in the bin and w = `PRIOR_WEIGHT` rows, few enough that about ten observed rows outweigh it; the
    posterior is Beta(k + p w, n - k + (1 - p) w). When rules moved the risk score by `modifier` points (of 100),
    the band is right if the rate so moved lies in it; the risk is clamped, so the outer bands have no outer edge.
    """

    cuts: tuple[float, ...]
    lowers: tuple[float, ...]
    posteriors: tuple[tuple[float, float], ...]
    _remembered: dict[tuple[int, int, float], float] = field(default_factory=dict, repr=False)

    def confidence(self, probability: float, band_index: int, modifier: float = 0.0) -> float:
        """Return that probability, 0-1, for a transaction of calibrated `probability` put in band `band_index`.

        Raises `ValueError` when there is no such band.
        """
        bin_index = bisect_right(self.lowers, probability) - 1
        key = (bin_index, band_index, modifier)
        found = self._remembered.get(key)
        if found is None:
            found = self._posterior_mass(bin_index, band_index, modifier)
            if len(self._remembered) < MAX_REMEMBERED:
                self._remembered[key] = found
        return found

    def _posterior_mass(self, bin_index: int, band_index: int, modifier: float) -> float:
        edges = (-inf, *self.cuts, inf)
        if not 0 <= band_index <= len(self.cuts):
            raise ValueError("there is no such band")
        alpha, beta = self.posteriors[bin_index]
        below, above = (
            float(betainc(alpha, beta, min(max(edge - modifier / 100, 0.0), 1.0)))
            for edge in (edges[band_index], edges[band_index + 1])
        )
        return above - below


def band_confidence(calibration: Calibration, cuts: Sequence[float]) -> BandConfidence:
    """Return the confidence tables for `cuts`, with every unmodified band worked out beforehand."""
    if any(not left < right for left, right in pairwise((0.0, *cuts, 1.0))):
        raise ValueError("the cuts must rise between 0 and 1")
    log_odds = np.array(
        [calibration.slope * found.lower + calibration.intercept for found in calibration.bins]
    )
    tables = BandConfidence(
        cuts=tuple(cuts),
        lowers=(-inf, *sigmoid(log_odds[1:]).tolist()),
        posteriors=tuple(_posterior(found) for found in calibration.bins),
    )
    for probability in tables.lowers:
        for band_index in range(len(tables.cuts) + 1):
            tables.confidence(probability, band_index)
    return tables


def _posterior(found: ScoreBin) -> tuple[float, float]:
    expected = min(max(found.mean_probability, SMALLEST), 1 - SMALLEST) * PRIOR_WEIGHT
    return found.frauds + expected, found.count - found.frauds + PRIOR_WEIGHT - expected
