"""The customers and merchants of the simulator, and one draft of a transaction. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from ai_service.ml.simulated_places import Address, City, Places, pick
from common.contracts.transactions import Channel, TransactionType

DAY_S = 86_400.0
ADDRESSES_PER_CUSTOMER = 4
CURRENCIES = {
    "GB": "GBP", "SE": "SEK", "PL": "PLN", "CH": "CHF", "US": "USD", "BR": "BRL", "TR": "TRY", "IN": "INR",
    "JP": "JPY", "AU": "AUD", "NO": "NOK", "DK": "DKK", "CZ": "CZK", "CA": "CAD",
}  # fmt: skip
"""What customers of a country pay in, where it is not the euro."""


class Scenario(StrEnum):
    """The story a simulated transaction belongs to. From `travel` to `collection`: honest, but looks like fraud."""

    EVERYDAY = "everyday"
    TRAVEL = "travel"
    BIG_PURCHASE = "big_purchase"
    NEW_PHONE = "new_phone"
    SHOPPING_SPREE = "shopping_spree"
    MICROTRANSACTIONS = "microtransactions"
    COLLECTION = "collection"
    CARD_TESTING = "card_testing"
    ACCOUNT_TAKEOVER = "account_takeover"
    STOLEN_CARD = "stolen_card"
    MULE_PAYOUT = "mule_payout"
    FRIENDLY_FRAUD = "friendly_fraud"


FRAUDS = frozenset(
    {
        Scenario.CARD_TESTING,
        Scenario.ACCOUNT_TAKEOVER,
        Scenario.STOLEN_CARD,
        Scenario.MULE_PAYOUT,
        Scenario.FRIENDLY_FRAUD,
    }
)

# category: usual amount in EUR, share of shops, paid online
CATEGORIES = {
    "groceries": (32.0, 0.24, 0.15),
    "restaurants": (24.0, 0.18, 0.2),
    "fuel": (48.0, 0.07, 0.0),
    "pharmacy": (17.0, 0.06, 0.3),
    "fashion": (58.0, 0.12, 0.7),
    "electronics": (140.0, 0.09, 0.8),
    "digital_goods": (9.0, 0.08, 1.0),
    "gift_cards": (40.0, 0.03, 1.0),
    "travel": (260.0, 0.06, 0.95),
    "furniture": (210.0, 0.07, 0.6),
}
BIG_CATEGORIES = ("electronics", "travel", "furniture")
RESOLD_CATEGORIES = ("electronics", "gift_cards", "digital_goods", "fashion")


@dataclass(frozen=True)
class Merchant:
    """A shop; `log_level` is the logarithm of its usual amount in EUR."""

    merchant_id: str
    category: str
    log_level: float
    is_online: bool
    city: City


@dataclass(frozen=True)
class Card:
    """A card by the caller's token for it."""

    card_token: str
    country: str


@dataclass(frozen=True)
class Customer:
    """A customer and its habits. Times are seconds since the simulation's start."""

    customer_id: str
    home: City
    joined_at: float
    per_day: float
    log_spending: float
    peak_hour: float
    hour_spread: float
    addresses: tuple[Address, ...]
    devices: tuple[str, ...]
    cards: tuple[Card, ...]
    favourites: tuple[Merchant, ...]
    payees: tuple[str, ...]
    hides_behind: Address | None


@dataclass(frozen=True)
class World:
    """Everybody and everything there is; `new_name` names what appears later."""

    places: Places
    merchants: tuple[Merchant, ...]
    by_category: dict[str, tuple[Merchant, ...]]
    customers: tuple[Customer, ...]
    duration_s: float
    _counts: dict[str, int] = field(default_factory=dict)

    def new_name(self, kind: str) -> str:
        """Return a name nothing else has, such as `device-n12`."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}-n{self._counts[kind]}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction before it has its number, currency and calendar time; `amount` is in EUR."""

    at: float
    customer: Customer
    scenario: Scenario
    transaction_type: TransactionType
    channel: Channel
    amount: float
    merchant: Merchant | None = None
    counterparty_id: str | None = None
    card: Card | None = None
    device_id: str | None = None
    address: Address | None = None


def make_world(rng: np.random.Generator, places: Places, *, customers: int, days: float) -> World:
    """Draw merchants and customers."""
    merchants = tuple(_merchant(rng, places, number) for number in range(max(30, customers // 6)))
    by_category = {
        category: tuple(shop for shop in merchants if shop.category == category) or merchants
        for category in CATEGORIES
    }
    popular = tuple(f"payee-popular-{number}" for number in range(max(4, customers // 60)))
    duration_s = days * DAY_S
    people = tuple(
        _customer(rng, places, merchants, payee=pick(rng, popular), number=number, duration_s=duration_s)
        for number in range(customers)
    )
    return World(places, merchants, by_category, people, duration_s)


def _merchant(rng: np.random.Generator, places: Places, number: int) -> Merchant:
    names, shares = list(CATEGORIES), [share for _, share, _ in CATEGORIES.values()]
    category = names[number] if number < len(names) else str(rng.choice(names, p=shares))
    usual, _, online = CATEGORIES[category]
    return Merchant(
        merchant_id=f"merchant-{number:04d}",
        category=category,
        log_level=float(np.log(usual) + rng.normal(0, 0.3)),
        is_online=bool(rng.random() < online),
        city=places.home(rng),
    )


def _customer(
    rng: np.random.Generator,
    places: Places,
    merchants: Sequence[Merchant],
    *,
    payee: str,
    number: int,
    duration_s: float,
) -> Customer:
    home = places.home(rng)
    name = f"customer-{number:05d}"
    joins_later = rng.random() < 0.3
    favourites = rng.choice(len(merchants), size=int(rng.integers(4, 9)), replace=False)
    payees = [f"payee-{number:05d}-{place}" for place in range(int(rng.integers(1, 5)))]
    cards, devices = rng.integers(1, 3, size=2).tolist()
    return Customer(
        customer_id=name,
        home=home,
        joined_at=float(rng.random() * 0.8 * duration_s) if joins_later else 0.0,
        per_day=float(rng.gamma(2.0, 0.85)),
        log_spending=float(rng.normal(0, 0.4)),
        peak_hour=float(rng.normal(14.5, 2.5)),
        hour_spread=float(rng.uniform(2.0, 4.5)),
        addresses=tuple(_addresses(rng, home, int(rng.integers(2, ADDRESSES_PER_CUSTOMER + 1)))),
        devices=tuple(f"device-{number:05d}-{place}" for place in range(devices)),
        cards=tuple(Card(f"tok-{number:05d}-{place}", home.country) for place in range(cards)),
        favourites=tuple(merchants[place] for place in favourites.tolist()),
        payees=(*payees, payee),
        hides_behind=pick(rng, places.hosting) if rng.random() < 0.03 else None,
    )


def _addresses(rng: np.random.Generator, home: City, wanted: int) -> list[Address]:
    """Return addresses of the home city; neighbours share some when the city has few."""
    first = int(rng.integers(len(home.addresses)))
    return [home.addresses[(first + step) % len(home.addresses)] for step in range(wanted)]
