"""The rules that the bench runs with: ten for LEAN, a hundred for FULL; in each exactly one that flags payments.

The others look at what the payment really has and then do not hold, as rules do for most payments.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.stream import MARKED

NEVER = 1e12  # no amount, count or distance gets there
FEATURES_IN_RULES = 80
MARKING_RULE = {
    "rule_id": "bench_marked",
    "action": "review",
    "score_modifier": 5,
    "message": "The bench marked this payment",
    "condition": f'transaction.merchant_category == "{MARKED}"',
}


def write_rules(path: Path, rules: Sequence[dict[str, Any]]) -> Path:
    """Write a rule catalogue as ai_service reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"version": 1, "rules": list(rules)}, sort_keys=False), encoding="utf-8")
    return path


def generated_rules(count: int, features: Sequence[str]) -> list[dict[str, Any]]:
    """Return `count` rules over the first 80 of `features`; the first one flags what the stream marks."""
    used = list(features)[:FEATURES_IN_RULES]
    conditions = [_condition(number, used) for number in range(1, count)]
    return [MARKING_RULE, *(_rule(number, found) for number, found in enumerate(conditions, start=1))]


def _rule(number: int, condition: str) -> dict[str, Any]:
    return {
        "rule_id": f"bench_{number:03d}",
        "action": ("challenge", "review", "block")[number % 3],
        "score_modifier": number % 20,
        "message": "A rule that the bench made",
        "condition": condition,
    }


def _condition(number: int, features: Sequence[str]) -> str:
    """Return one of four shapes; each reads two or three values before it fails."""
    first = f"features.{features[number % len(features)]}"
    second = f"features.{features[(7 * number + 3) % len(features)]}"
    shapes = (
        f"{first} > {NEVER:.1f} || {second} > {NEVER + number:.1f}",
        f"features.amount >= 0.0 && ({first} > {NEVER:.1f} || {second} < -{number}.0)",
        f'transaction.transaction_type != "refund" && {first} > {NEVER:.1f}',
        f'(location.country != "XX" && score.fraud_probability >= 0.0) && {second} > {NEVER:.1f}',
    )
    return shapes[number % len(shapes)]
