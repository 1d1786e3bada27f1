"""Evaluates rules written in CEL against one transaction. Pure: no clock, no network, no database.

All conditions of a ruleset are one list expression over one activation, which costs a tenth of evaluating them
one by one. One failing condition fails the whole list; then each rule is evaluated for itself, a rule that fails is
reported with its error instead of hitting, and from then on it is evaluated apart from the list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cel_expr_python import cel
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.definitions import FEATURE_NAMES
from ai_service.rules.variables import NUMBERS, TEXTS, VARIABLES, Lists, NotAVariableError
from common.contracts.decisions import RuleAction, RuleMode
from common.contracts.geoip import GeoLocation

FAILED = "the condition could not be evaluated"


class RuleInvalidError(Exception):
    """A rule's condition does not compile; the message shows where."""


@dataclass(frozen=True)
class Rule:
    """One rule as it is written down; `score_modifier` is in points of the risk score (0-100)."""

    rule_id: str
    version: int
    action: RuleAction
    condition: str
    message: str
    score_modifier: float = 0.0
    alert: bool = False
    mode: RuleMode = RuleMode.LIVE


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A rule whose condition was true, or one that could not be evaluated (`error`)."""

    rule: Rule
    error: str | None = None

    @property
    def counts(self) -> bool:
        """Whether this hit may change the outcome: live, and without error."""
        return self.error is None and self.rule.mode is RuleMode.LIVE


@dataclass(frozen=True)
class _Together:
    """Which rules are evaluated as one list, as numbers of rules, and the list; the others are evaluated apart."""

    members: tuple[int, ...]
    conditions: Any
    apart: tuple[int, ...]


class Ruleset:
    """A version of an institution's rules, compiled for feature vectors in the order of `feature_names`."""

    def __init__(
        self, rules: Sequence[Rule], *, version: int, feature_names: Sequence[str] = FEATURE_NAMES
    ) -> None:
        self.version = version
        self.rules = tuple(rules)
        self._lists = Lists([rule.condition for rule in self.rules], feature_names=feature_names)
        self._environment = _environment(
            {NUMBERS: cel.Type.List(cel.Type.DOUBLE), TEXTS: cel.Type.List(cel.Type.STRING)}
        )
        as_written = _environment(VARIABLES)
        for rule in self.rules:
            _compile(as_written, rule, rule.condition)
        self._rewritten = [self._rewrite(rule) for rule in self.rules]
        self._each = [
            _compile(self._environment, rule, condition)
            for rule, condition in zip(self.rules, self._rewritten, strict=True)
        ]
        self._together = self._compiled(apart=frozenset())

    def evaluate(
        self,
        accepted: AcceptedTransaction,
        location: GeoLocation,
        features: NDArray[np.float64],
        fraud_probability: float,
    ) -> list[RuleHit]:
        """Return the rules that hit, and those that failed, in the order in which they are written."""
        data = self._lists.of(accepted, location, features, fraud_probability)
        together = self._together
        found = together.conditions.eval(data=data).plain_value()
        if together.apart or not isinstance(found, list):
            return self._with_failures(self._environment.Activation(data), together, found)
        if True not in found:
            return []
        return [RuleHit(rule) for rule, hit in zip(self.rules, found, strict=True) if hit]

    def _with_failures(self, activation: Any, together: _Together, found: Any) -> list[RuleHit]:  # noqa: ANN401 - CEL
        """Evaluate apart what has failed before, or everything when the list failed now."""
        if isinstance(found, list):
            results = dict(zip(together.members, found, strict=True))
        else:
            results = {number: self._alone(number, activation) for number in together.members}
            failed = {number for number, result in results.items() if result is None}
            self._together = self._compiled(apart=failed.union(together.apart))
        results |= {number: self._alone(number, activation) for number in together.apart}
        return [
            RuleHit(rule, error=FAILED if results[number] is None else None)
            for number, rule in enumerate(self.rules)
            if results[number] is not False
        ]

    def _alone(self, number: int, activation: Any) -> bool | None:  # noqa: ANN401 - cel.Activation has no type
        """Return whether one rule hits; None when it fails."""
        found = self._each[number].eval(activation).plain_value()
        return found if isinstance(found, bool) else None

    def _compiled(self, *, apart: frozenset[int] | set[int]) -> _Together:
        members = tuple(number for number in range(len(self.rules)) if number not in apart)
        # a condition may end in a comment, which the line break ends
        conditions = ", ".join(f"({self._rewritten[number]}\n)" for number in members)
        return _Together(members, self._environment.compile(f"[{conditions}]"), tuple(sorted(apart)))

    def _rewrite(self, rule: Rule) -> str:
        try:
            return self._lists.rewrite(rule.condition)
        except NotAVariableError as error:
            raise RuleInvalidError(f"{rule.rule_id}: {error}") from error


def _compile(environment: Any, rule: Rule, condition: str) -> Any:  # noqa: ANN401 - CEL's types have no names
    try:
        expression = environment.compile(condition)
    except RuntimeError as error:
        raise RuleInvalidError(f"{rule.rule_id}: {error}") from error
    if expression.return_type() != cel.Type.BOOL:
        raise RuleInvalidError(f"{rule.rule_id}: a condition is true or false; this one is neither")
    return expression


def _environment(variables: Mapping[str, Any]) -> Any:  # noqa: ANN401 - cel.Env has no type
    return cel.NewEnv(
        variables=dict(variables),
        functions=[
            cel.FunctionDecl(
                "known",
                [
                    cel.Overload(
                        "known_double",
                        return_type=cel.Type.BOOL,
                        parameters=[cel.Type.DOUBLE],
                        impl=lambda number: number == number,  # noqa: PLR0124 - NaN is the only number unlike itself
                    )
                ],
            )
        ],
    )
