"""Says why. Pure: reasons and signals from rule hits and from the model's Shapley contributions."""

from collections.abc import Sequence
from functools import lru_cache
from math import isnan

import numpy as np
from numpy.typing import NDArray

from ai_service.features.definitions import FAMILIES, FEATURE_NAMES, FEATURES, Feature
from ai_service.rules.engine import RuleHit
from common.contracts.decisions import Reason, ReasonSource

MAX_MODEL_REASONS = 5
_BY_NAME = {feature.name: feature for feature in FEATURES}
_YES_NO_PREFIXES = ("is_", "ip_country_differs")


def rule_reasons(rule_hits: Sequence[RuleHit]) -> list[Reason]:
    """Return a reason for every rule that counted, the strongest modifier first."""
    counting = [hit.rule for hit in rule_hits if hit.counts]
    counting.sort(key=lambda rule: -abs(rule.score_modifier))
    return [
        Reason(
            code=rule.rule_id.upper(),
            message=rule.message,
            contribution=rule.score_modifier,
            source=ReasonSource.RULE,
        )
        for rule in counting
    ]


def model_reasons(
    features: NDArray[np.float64], contributions: NDArray[np.float64], names: tuple[str, ...] = FEATURE_NAMES
) -> list[Reason]:
    """Return what raised the score most, at most five reasons.

    `features` and `contributions` have shape (len(names),); contributions are Shapley values in log-odds before
    calibration. Features that share a code are one reason; its message names the strongest of them.
    """
    adds = contributions.tolist()
    totals = [(sum(adds[each] for each in positions), positions) for positions in _by_code(names)]
    totals.sort(key=lambda entry: -entry[0])
    return [
        _model_reason(total, _BY_NAME[names[strongest]], float(features[strongest]))
        for total, positions in totals[:MAX_MODEL_REASONS]
        if total > 0
        for strongest in [max(positions, key=adds.__getitem__)]
    ]


def signals(contributions: NDArray[np.float64], names: tuple[str, ...] = FEATURE_NAMES) -> dict[str, float]:
    """Return the sum of contributions (log-odds) for each family of features."""
    sums = dict.fromkeys(FAMILIES, 0.0)
    for name, contribution in zip(names, contributions.tolist(), strict=True):
        sums[_BY_NAME[name].family] += contribution
    return {family: round(total, 6) for family, total in sums.items()}


@lru_cache(maxsize=16)
def _by_code(names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the positions of the features that share a code, in the order of the codes' first features."""
    found: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        found.setdefault(_BY_NAME[name].code, []).append(position)
    return tuple(tuple(positions) for positions in found.values())


def _model_reason(total: float, feature: Feature, value: float) -> Reason:
    return Reason(
        code=feature.code,
        message=f"{feature.message}: {_said(feature, value)}",
        contribution=round(total, 6),
        source=ReasonSource.MODEL,
    )


def _said(feature: Feature, value: float) -> str:
    if isnan(value):
        return "unknown"
    if feature.name.startswith(_YES_NO_PREFIXES):
        return "yes" if value else "no"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"
