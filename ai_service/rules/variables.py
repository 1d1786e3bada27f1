"""What conditions may name, and how a ruleset's conditions are rewritten so that they are read fast.

Handing a rule engine eighty values one by one costs more than evaluating a hundred rules. So the numbers that the
rules of a set name are handed over as one list, and the texts as another, and each name in a condition is replaced
by its place in the list. Authors never see that: a condition is checked, and its errors are shown, as it was written.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import nan
from operator import itemgetter
from typing import Any

import numpy as np
from cel_expr_python import cel
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.definitions import FEATURE_NAMES
from common.contracts.geoip import GeoLocation

NUMBERS, TEXTS = "_numbers", "_texts"
_TEXT_FIELDS = (
    "currency", "transaction_type", "channel", "customer_id", "account_id", "merchant_id", "merchant_category",
    "counterparty_id", "ip_address", "device_id", "email", "billing_country",
)  # fmt: skip
_TOKEN = re.compile(
    r"""
    (?P<literal>
        [bB]?[rR][bB]?(?:\"{3}[\s\S]*?\"{3} | '{3}[\s\S]*?'{3} | "[^"\n]*" | '[^'\n]*')
        | \"{3}(?:[^\\]|\\.)*?\"{3} | '{3}(?:[^\\]|\\.)*?'{3}
        | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'
    )
    | (?P<comment>//[^\n]*)
    | (?P<internal>\b(?:_numbers|_texts)\b)
    | (?<![\w.])(?P<root>transaction|features|location|score)\b(?:\s*\.\s*(?P<field>\w+))?
    """,
    re.VERBOSE,
)


class NotAVariableError(Exception):
    """A condition uses a name in a way that variables are not used; the message is for its author."""


def variables_in(condition: str) -> set[str]:
    """Return the variables that `condition` names, outside its text literals and comments."""
    return {f"{found['root']}.{found['field']}" for found in _TOKEN.finditer(condition) if found["field"]}


def features_in(conditions: Iterable[str]) -> set[str]:
    """Return the names of the features that `conditions` read."""
    named = {name for condition in conditions for name in variables_in(condition)}
    return {name.removeprefix("features.") for name in named if name.startswith("features.")}


class Lists:
    """The two lists that the rules of one set read: its features and other numbers, and its texts."""

    def __init__(self, conditions: Iterable[str], *, feature_names: Sequence[str]) -> None:
        named = sorted({name for each in conditions for name in variables_in(each)})
        positions = {f"features.{name}": position for position, name in enumerate(feature_names)}
        features = [name for name in named if name in positions]
        numbers = [name for name in named if name in _NUMBERS]
        texts = [name for name in named if name in _TEXTS]
        self._pick = _picker([positions[name] for name in features])
        self._numbers = [_NUMBERS[name] for name in numbers]
        self._texts = [_TEXTS[name] for name in texts]
        self._places = {
            **{name: f"{NUMBERS}[{place}]" for place, name in enumerate((*features, *numbers))},
            **{name: f"{TEXTS}[{place}]" for place, name in enumerate(texts)},
        }

    def rewrite(self, condition: str) -> str:
        """Return `condition` with each variable as a place in a list; raises `NotAVariableError`."""
        return _TOKEN.sub(self._placed, condition)

    def of(
        self,
        accepted: AcceptedTransaction,
        location: GeoLocation,
        features: NDArray[np.float64],
        fraud_probability: float,
    ) -> dict[str, list[Any]]:
        """Return the two lists of one transaction."""
        numbers = [*self._pick(features.tolist())]
        for read in self._numbers:
            numbers.append(read(accepted, location, fraud_probability))
        return {NUMBERS: numbers, TEXTS: [read_text(accepted, location) for read_text in self._texts]}

    def _placed(self, found: re.Match[str]) -> str:
        if found["literal"] or found["comment"]:
            return found[0]
        if found["internal"]:
            raise NotAVariableError(f"{found['internal']} is a name that conditions may not use")
        if not found["field"]:
            raise NotAVariableError(f"{found['root']} is used only with a dot and a name after it")
        name = f"{found['root']}.{found['field']}"
        if name not in self._places:
            raise NotAVariableError(f"{name} is not computed for this ruleset")
        return self._places[name]


def _picker(positions: Sequence[int]) -> Callable[[list[float]], Sequence[float]]:
    """Return what picks the numbers at `positions`; a getter of one position returns no sequence."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda numbers: [numbers[position] for position in positions]


def _text(field: str) -> Callable[[AcceptedTransaction, GeoLocation], str]:
    """Read a field as its canonical text, which was made for the transaction's idempotency anyway."""

    def read(accepted: AcceptedTransaction, _location: GeoLocation) -> str:
        found: str = accepted.transaction.canonical.get(field, "")
        return found

    return read


def _number(value: float | None) -> float:
    return nan if value is None else value


_NUMBERS: Mapping[str, Callable[[AcceptedTransaction, GeoLocation, float], float]] = {
    "transaction.amount": lambda accepted, _location, _probability: float(accepted.transaction.amount),
    "score.fraud_probability": lambda _accepted, _location, probability: probability,
    "location.latitude": lambda _accepted, location, _probability: _number(location.latitude),
    "location.longitude": lambda _accepted, location, _probability: _number(location.longitude),
}
_TEXTS: Mapping[str, Callable[[AcceptedTransaction, GeoLocation], str]] = {
    **{f"transaction.{field}": _text(field) for field in _TEXT_FIELDS},
    "location.status": lambda _accepted, location: location.status.value,
    "location.country": lambda _accepted, location: location.country or "",
    "location.network_kind": lambda _accepted, location: location.network_kind or "",
}
VARIABLES: Mapping[str, Any] = {
    **dict.fromkeys([*_NUMBERS, *(f"features.{name}" for name in FEATURE_NAMES)], cel.Type.DOUBLE),
    **dict.fromkeys(_TEXTS, cel.Type.STRING),
}
"""Every name and its CEL type."""
