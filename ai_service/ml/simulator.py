"""Simulates customers, merchants and fraudsters: labelled transactions for training, demos and tests. Pure.

Everything follows from the seed. What is simulated is plausible, not measured: fraud is far more frequent than in
life, and a model trained on it proves that the path works, not that it finds anybody's real fraud.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import numpy as np

from ai_service.ml.simulated_frauds import fraud_drafts
from ai_service.ml.simulated_habits import honest_drafts, local_offset_h
from ai_service.ml.simulated_people import CURRENCIES, FRAUDS, Draft, Scenario, make_world
from ai_service.ml.simulated_places import UNKNOWN, Locate, draw_places, locate_by_hash
from common.contracts.currencies import EXPONENTS
from common.contracts.geoip import GeoLocation
from common.contracts.transactions import PaymentMethod, Place, Transaction

FRAUD_RATE = 0.03
MIN_ADDRESSES = 1500
ADDRESSES_PER_CUSTOMER = 6
WORTH_OF_ONE_EURO = {
    "EUR": 1.0, "GBP": 0.86, "SEK": 11.1, "PLN": 4.26, "CHF": 0.94, "USD": 1.1, "BRL": 6.0, "TRY": 45.0,
    "INR": 96.0, "JPY": 171.0, "AUD": 1.66, "NOK": 11.7, "DKK": 7.46, "CZK": 24.6, "CAD": 1.52,
}  # fmt: skip
"""Roughly what one euro buys of each currency: prices look like prices, nothing is converted by it."""


@dataclass(frozen=True, slots=True)
class SimulatedTransaction:
    """A transaction, what enrichment would find for its address, and the truth about it."""

    transaction: Transaction
    location: GeoLocation
    is_fraud: bool
    scenario: Scenario


def simulate(
    *,
    seed: int,
    start: datetime,
    customers: int = 1500,
    days: float = 30,
    fraud_rate: float = FRAUD_RATE,
    locate: Locate = locate_by_hash,
    id_prefix: str = "sim",
) -> Iterator[SimulatedTransaction]:
    """Yield the transactions of `customers` during `days` from `start`, in the order of their event times.

    There are about 1.5 a day for each customer. Addresses are drawn first and `locate` is asked once about all of
    them, so that a customer's home addresses lie in one city by that look-up: pass one that asks the real service
    when its answers will be used. Raises `TooFewPlacesError` when it places next to nothing.
    """
    rng = np.random.default_rng(seed)
    places = draw_places(rng, locate, addresses=max(MIN_ADDRESSES, ADDRESSES_PER_CUSTOMER * customers))
    world = make_world(rng, places, customers=customers, days=days)
    drafts = list(honest_drafts(rng, world))
    drafts += fraud_drafts(rng, world, honest=len(drafts), fraud_rate=fraud_rate)
    drafts.sort(key=lambda draft: draft.at)
    number = 0
    for draft in drafts:
        if draft.at < world.duration_s:
            number += 1
            yield _finish(draft, start, f"{id_prefix}-{seed}-{number:07d}")


def _finish(draft: Draft, start: datetime, transaction_id: str) -> SimulatedTransaction:
    customer, merchant, address = draft.customer, draft.merchant, draft.address
    home = customer.home
    currency = CURRENCIES.get(home.country, "EUR")
    location = UNKNOWN if address is None else address.location
    transaction = Transaction(
        transaction_id=transaction_id,
        event_time=_event_time(draft, start),
        amount=_price(draft.amount, currency),
        currency=currency,
        transaction_type=draft.transaction_type,
        customer_id=customer.customer_id,
        merchant_id=merchant.merchant_id if merchant else None,
        merchant_category=merchant.category if merchant else None,
        counterparty_id=draft.counterparty_id,
        payment_method=_payment_method(draft),
        channel=draft.channel,
        ip_address=address.text if address else None,
        device_id=draft.device_id,
        email=f"{customer.customer_id}@example.org",
        billing_country=home.country,
        merchant_location=Place(country=merchant.city.country) if merchant else None,
    )
    return SimulatedTransaction(transaction, location, draft.scenario in FRAUDS, draft.scenario)


def _event_time(draft: Draft, start: datetime) -> datetime:
    """Return the event time with the offset of the customer's home, to the millisecond."""
    offset = timezone(timedelta(hours=local_offset_h(draft.customer.home.longitude)))
    return (start + timedelta(milliseconds=round(draft.at * 1000))).astimezone(offset)


def _price(amount_eur: float, currency: str) -> Decimal:
    exponent = EXPONENTS[currency]
    minor = max(1, round(amount_eur * WORTH_OF_ONE_EURO[currency] * 10**exponent))
    return Decimal(minor).scaleb(-exponent)


def _payment_method(draft: Draft) -> PaymentMethod | None:
    if draft.card is None:
        return PaymentMethod(type="account")
    return PaymentMethod(type="card", card_token=draft.card.card_token, card_country=draft.card.country)
