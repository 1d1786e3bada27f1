"""Says why. Pure: reasons and signals from rule hits and from the model's Shapley contributions."""

from collections.abc import Sequence
from math import isnan

import numpy as np
from numpy.typing import NDArray

from ai_service.features.definitions import FAMILIES, FEATURES, Feature
from ai_service.rules.engine import RuleHit
from common.contracts.decisions import Reason, ReasonSource

MAX_MODEL_REASONS = 5
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


def model_reasons(features: NDArray[np.float64], contributions: NDArray[np.float64]) -> list[Reason]:
    """Return what raised the score most, at most five reasons.

    `features` and `contributions` have shape (len(FEATURES),); contributions are Shapley values in log-odds before
    calibration. Features that share a code are one reason; its message names the strongest of them.
    """
    by_code: dict[str, list[int]] = {}
    for position, feature in enumerate(FEATURES):
        by_code.setdefault(feature.code, []).append(position)
    totals = [(float(contributions[positions].sum()), positions) for positions in by_code.values()]
    totals.sort(key=lambda entry: -entry[0])
    return [
        _model_reason(total, max(positions, key=lambda position: contributions[position]), features)
        for total, positions in totals[:MAX_MODEL_REASONS]
        if total > 0
    ]


def signals(contributions: NDArray[np.float64]) -> dict[str, float]:
    """Return the sum of contributions (log-odds) for each family of features."""
    sums = dict.fromkeys(FAMILIES, 0.0)
    for feature, contribution in zip(FEATURES, contributions, strict=True):
        sums[feature.family] += float(contribution)
    return {family: round(total, 6) for family, total in sums.items()}


def _model_reason(total: float, strongest: int, features: NDArray[np.float64]) -> Reason:
    feature = FEATURES[strongest]
    return Reason(
        code=feature.code,
        message=f"{feature.message}: {_said(feature, float(features[strongest]))}",
        contribution=round(total, 6),
        source=ReasonSource.MODEL,
    )


def _said(feature: Feature, value: float) -> str:
    if isnan(value):
        return "unknown"
    if feature.name.startswith(_YES_NO_PREFIXES):
        return "yes" if value else "no"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"
