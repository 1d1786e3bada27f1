"""What fraudsters do in the simulator: each function tells one incident. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ai_service.ml.simulated_habits import any_address, payment, transfer
from ai_service.ml.simulated_people import (
    DAY_S,
    RESOLD_CATEGORIES,
    Card,
    Customer,
    Draft,
    Merchant,
    Scenario,
    World,
)
from ai_service.ml.simulated_places import Address, pick
from common.contracts.transactions import Channel, TransactionType

Incident = Callable[[np.random.Generator, World], Iterator[Draft]]


def fraud_drafts(
    rng: np.random.Generator, world: World, *, honest: int, fraud_rate: float
) -> Iterator[Draft]:
    """Yield incidents until frauds are about `fraud_rate` of all transactions; each story happens at least once."""
    frauds = honest * fraud_rate / (1 - fraud_rate)
    for incident, share in SHARES.items():
        told = 0
        while told < max(1, frauds * share):
            for draft in incident(rng, world):
                told += 1
                yield draft


def card_testing(rng: np.random.Generator, world: World) -> Iterator[Draft]:
    """Try stolen cards with small amounts at one shop, from one device: fast, or slow so as not to be seen."""
    at, gap_s = _begin(rng, world), float(rng.choice([8, 15, 30, 400]))
    device, address = world.new_name("device"), _remote(rng, world)
    shop = _shop(rng, world, ("digital_goods", "gift_cards"))
    for _ in range(int(rng.integers(8, 26))):
        at += float(rng.exponential(gap_s)) + 1
        victim = _victim(rng, world, at)
        card = victim.cards[-1] if rng.random() < 0.6 else Card(world.new_name("tok"), victim.home.country)
        yield Draft(
            at=at,
            customer=victim,
            scenario=Scenario.CARD_TESTING,
            transaction_type=TransactionType.PAYMENT,
            channel=Channel.WEB,
            amount=float(rng.uniform(0.5, 6)),
            merchant=shop,
            card=card,
            device_id=device,
            address=address,
        )


def account_takeover(rng: np.random.Generator, world: World) -> Iterator[Draft]:
    """Log in as somebody else and move money, or buy what can be sold again."""
    at = _begin(rng, world)
    victim = _victim(rng, world, at)
    device = world.new_name("device") if rng.random() < 0.88 else victim.devices[0]
    address = _remote(rng, world) if rng.random() < 0.7 else _near(rng, victim)
    payee = world.new_name("payee")
    moves_money, greed = rng.random() < 0.55, float(rng.uniform(1.2, 9))
    for _ in range(int(rng.integers(1, 6))):
        at += float(rng.exponential(9 * 60))
        if moves_money:
            draft = replace(transfer(rng, world, victim, at=at), counterparty_id=payee)
        else:
            draft = payment(rng, world, victim, _shop(rng, world, RESOLD_CATEGORIES), at=at)
        yield replace(
            draft,
            scenario=Scenario.ACCOUNT_TAKEOVER,
            channel=Channel.WEB if rng.random() < 0.5 else Channel.MOBILE,
            amount=draft.amount * greed,
            device_id=device,
            address=address,
        )


def stolen_card(rng: np.random.Generator, world: World) -> Iterator[Draft]:
    """Spend from a stolen card until it is blocked; at terminals there is neither device nor address."""
    at = _begin(rng, world)
    victim = _victim(rng, world, at)
    at_terminals = rng.random() < 0.3
    device = None if at_terminals else world.new_name("device")
    address = None if at_terminals else _remote(rng, world) if rng.random() < 0.5 else _near(rng, victim)
    times = 1 if rng.random() < 0.2 else int(rng.integers(3, 9))
    for _ in range(times):
        at += float(rng.exponential(11 * 60)) + 20
        shop = (
            _shop(rng, world, RESOLD_CATEGORIES) if rng.random() < 0.8 else _shop(rng, world, ("groceries",))
        )
        draft = payment(rng, world, victim, shop, at=at)
        yield replace(
            draft,
            scenario=Scenario.STOLEN_CARD,
            channel=Channel.POS if at_terminals else Channel.WEB,
            amount=draft.amount * float(rng.uniform(0.8, 4)),
            card=victim.cards[0],
            device_id=device,
            address=address,
        )


def mule_payout(rng: np.random.Generator, world: World) -> Iterator[Draft]:
    """Send many customers' money to one account: from the thief's device, or by victims who were talked into it."""
    begins, hours = _begin(rng, world), float(rng.choice([2, 12, 36]))
    payee, device, address = world.new_name("payee"), world.new_name("device"), _remote(rng, world)
    talked_into = rng.random() < 0.4
    times = np.sort(begins + rng.random(int(rng.integers(7, 19))) * hours / 24 * DAY_S)
    for at in times.tolist():
        victim = _victim(rng, world, at)
        draft = transfer(rng, world, victim, at=at)
        if not talked_into:
            draft = replace(draft, channel=Channel.WEB, device_id=device, address=address)
        yield replace(
            draft,
            scenario=Scenario.MULE_PAYOUT,
            counterparty_id=payee,
            amount=float(np.exp(rng.normal(6.4, 0.6))),
        )


def friendly_fraud(rng: np.random.Generator, world: World) -> Iterator[Draft]:
    """Pay as always and dispute it later: nothing in the transaction shows it, so no model finds all fraud."""
    at = _begin(rng, world)
    victim = _victim(rng, world, at)
    draft = payment(rng, world, victim, _shop(rng, world, RESOLD_CATEGORIES), at=at)
    yield replace(
        draft,
        scenario=Scenario.FRIENDLY_FRAUD,
        channel=Channel.WEB,
        device_id=victim.devices[0],
        address=any_address(rng, world, victim),
    )


SHARES: dict[Incident, float] = {
    card_testing: 0.28,
    account_takeover: 0.24,
    stolen_card: 0.26,
    mule_payout: 0.19,
    friendly_fraud: 0.03,
}
"""The share of each story among fraudulent transactions."""


def _begin(rng: np.random.Generator, world: World) -> float:
    """Return when an incident begins: early enough that most of it happens before the end."""
    return float(rng.random() * 0.985 * world.duration_s)


def _victim(rng: np.random.Generator, world: World, at: float) -> Customer:
    while True:
        victim = pick(rng, world.customers)
        if victim.joined_at <= at:
            return victim


def _remote(rng: np.random.Generator, world: World) -> Address:
    """Return an address that hides who uses it: hosting, nowhere known, or somebody's in any country."""
    draw = rng.random()
    if draw < 0.35:
        return pick(rng, world.places.hosting)
    if draw < 0.45 and world.places.unknown:
        return pick(rng, world.places.unknown)
    city = pick(rng, world.places.cities)
    return pick(rng, city.addresses)


def _near(rng: np.random.Generator, victim: Customer) -> Address:
    """Return an address in the victim's own city, as fraudsters who know their trade rent them."""
    return pick(rng, victim.home.addresses)


def _shop(rng: np.random.Generator, world: World, categories: tuple[str, ...]) -> Merchant:
    shops = world.by_category[pick(rng, categories)]
    return pick(rng, shops)
