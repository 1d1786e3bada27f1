"""Evaluates rules written in CEL against one transaction. Pure: no clock, no network, no database.

All conditions of a ruleset are one list expression over one activation, which costs a tenth of evaluating them
one by one. One failing condition fails the whole list; then each rule is evaluated for itself, and a rule that
fails is reported with its error instead of hitting.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from cel_expr_python import cel
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.definitions import FEATURE_NAMES
from common.contracts.decisions import RuleAction, RuleMode
from common.contracts.geoip import GeoLocation

_VARIABLE = re.compile(r"\b(?:transaction|features|location|score)\.[a-z0-9_]+")
_TEXT_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')


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


@dataclass(frozen=True, slots=True)
class RuleInput:
    """What conditions may read."""

    accepted: AcceptedTransaction
    location: GeoLocation
    features: NDArray[Any]
    fraud_probability: float


class Ruleset:
    """A version of an institution's rules, compiled."""

    def __init__(self, rules: Sequence[Rule], *, version: int) -> None:
        self.version = version
        self.rules = tuple(rules)
        self._environment = _environment()
        self._each = [self._compiled(rule) for rule in self.rules]
        conditions = ", ".join(f"({rule.condition})" for rule in self.rules)
        self._all = self._environment.compile(f"[{conditions}]")
        named = {name for rule in self.rules for name in variables_in(rule.condition)}
        self._readers = [(name, VARIABLES[name].read) for name in sorted(named)]

    def evaluate(
        self,
        accepted: AcceptedTransaction,
        location: GeoLocation,
        features: NDArray[Any],
        fraud_probability: float,
    ) -> list[RuleHit]:
        """Return the rules that hit, and those that failed, in the order in which they are written."""
        given = RuleInput(accepted, location, features, fraud_probability)
        activation = self._environment.Activation({name: read(given) for name, read in self._readers})
        result = self._all.eval(activation)
        if result.type() == cel.Type.ERROR:
            return self._evaluate_each(activation)
        return [RuleHit(rule) for rule, hit in zip(self.rules, result.plain_value(), strict=True) if hit]

    def _evaluate_each(self, activation: Any) -> list[RuleHit]:  # noqa: ANN401 - cel.Activation has no type
        hits = []
        for rule, condition in zip(self.rules, self._each, strict=True):
            result = condition.eval(activation)
            if result.type() == cel.Type.ERROR:
                hits.append(RuleHit(rule, error="the condition could not be evaluated"))
            elif result.value():
                hits.append(RuleHit(rule))
        return hits

    def _compiled(self, rule: Rule) -> Any:  # noqa: ANN401 - cel.Expression has no type
        try:
            expression = self._environment.compile(rule.condition)
        except RuntimeError as error:
            raise RuleInvalidError(f"{rule.rule_id}: {error}") from error
        if expression.return_type() != cel.Type.BOOL:
            raise RuleInvalidError(f"{rule.rule_id}: a condition is true or false; this one is neither")
        return expression


def variables_in(condition: str) -> set[str]:
    """Return the variables that `condition` names, outside its text literals."""
    return set(_VARIABLE.findall(_TEXT_LITERAL.sub('""', condition)))


@dataclass(frozen=True)
class Variable:
    """A name that conditions may use: its CEL type and how it is read."""

    type: Any
    read: Callable[[RuleInput], Any]


def _environment() -> Any:  # noqa: ANN401 - cel.Env has no type
    return cel.NewEnv(
        variables={name: variable.type for name, variable in VARIABLES.items()},
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


def _variables() -> Mapping[str, Variable]:
    return {**_transaction_variables(), **_location_variables(), **_feature_variables()}


def _transaction_variables() -> Mapping[str, Variable]:
    def text(field: str) -> Variable:
        return Variable(cel.Type.STRING, lambda given: str(getattr(given.accepted.transaction, field) or ""))

    texts = (
        "currency", "transaction_type", "channel", "customer_id", "account_id", "merchant_id", "merchant_category",
        "counterparty_id", "ip_address", "device_id", "email", "billing_country",
    )  # fmt: skip
    return {
        "transaction.amount": Variable(
            cel.Type.DOUBLE, lambda given: float(given.accepted.transaction.amount)
        ),
        **{f"transaction.{field}": text(field) for field in texts},
        "score.fraud_probability": Variable(cel.Type.DOUBLE, lambda given: given.fraud_probability),
    }


def _location_variables() -> Mapping[str, Variable]:
    return {
        "location.status": Variable(cel.Type.STRING, lambda given: given.location.status.value),
        "location.country": Variable(cel.Type.STRING, lambda given: given.location.country or ""),
        "location.network_kind": Variable(cel.Type.STRING, lambda given: given.location.network_kind or ""),
        "location.latitude": Variable(cel.Type.DOUBLE, lambda given: _number(given.location.latitude)),
        "location.longitude": Variable(cel.Type.DOUBLE, lambda given: _number(given.location.longitude)),
    }


def _feature_variables() -> Mapping[str, Variable]:
    def feature(position: int) -> Variable:
        return Variable(cel.Type.DOUBLE, lambda given: float(given.features[position]))

    return {f"features.{name}": feature(position) for position, name in enumerate(FEATURE_NAMES)}


def _number(value: float | None) -> float:
    return nan if value is None else value


VARIABLES = _variables()
