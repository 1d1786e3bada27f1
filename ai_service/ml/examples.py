"""Makes training examples: replays transactions through the velocity store and the features that serve."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from ai_service.features.accepted import accept
from ai_service.features.definitions import build_features
from ai_service.features.money import RateBook
from ai_service.features.store import EmbeddedVelocity
from ai_service.ml.simulator import WORTH_OF_ONE_EURO, SimulatedTransaction
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.rates import RateTable

_INSTITUTION = Institution(institution_id="simulated", mode=InstitutionMode.SANDBOX, base_currency="EUR")


@dataclass(frozen=True)
class Examples:
    """Transactions as the model sees them, in the order of time: rows of shape (count, features)."""

    rows: NDArray[np.float64]
    is_fraud: NDArray[np.bool_]
    scenarios: tuple[str, ...]

    def between(self, begin: float, end: float) -> "Examples":
        """Return the part between two shares of the whole, such as 0.6 and 0.8."""
        part = slice(round(begin * len(self.rows)), round(end * len(self.rows)))
        return Examples(self.rows[part], self.is_fraud[part], self.scenarios[part])


def replay(
    simulated: Iterable[SimulatedTransaction], *, rates: RateBook, advance: Callable[[], object]
) -> Examples:
    """Compute the features of each transaction as serving would have; `advance` is called after each."""
    store = EmbeddedVelocity()
    rows, is_fraud, scenarios = [], [], []
    for example in simulated:
        transaction = example.transaction
        accepted = accept(
            transaction,
            _INSTITUTION,
            amount_base_minor=rates.convert(
                transaction.amount, transaction.currency, base_currency="EUR", at=transaction.event_time
            ),
            now=transaction.event_time,
            accepted_by="training",
            request_id="",
        )
        velocity = store.observe(accepted, example.location)
        store.saved([(_INSTITUTION.institution_id, transaction.transaction_id)])
        rows.append(build_features(accepted, location=example.location, velocity=velocity))
        is_fraud.append(example.is_fraud)
        scenarios.append(example.scenario.value)
        advance()
    return Examples(np.array(rows), np.array(is_fraud), tuple(scenarios))


def simulated_rates(start: datetime) -> RateBook:
    """Return the rates the simulator makes its prices with, as a table of the day it starts."""
    rates = {currency: Decimal(str(round(1 / worth, 8))) for currency, worth in WORTH_OF_ONE_EURO.items()}
    table = RateTable(
        base_currency="EUR", as_of=start.date(), source="simulator", is_sample=True, rates=rates
    )
    return RateBook({"EUR": [table]})
