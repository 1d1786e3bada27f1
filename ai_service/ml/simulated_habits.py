"""What honest customers do in the simulator, also when it looks like fraud. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import floor

import numpy as np

from ai_service.ml.simulated_people import (
    BIG_CATEGORIES,
    DAY_S,
    Customer,
    Draft,
    Merchant,
    Scenario,
    World,
)
from ai_service.ml.simulated_places import Address, pick
from common.contracts.transactions import Channel, TransactionType

HOUR_S = 3600.0
AMOUNT_SPREAD = 0.55
# chances within thirty days
TRAVELS, CHANGES_PHONE, GOES_SHOPPING, PLAYS = 0.08, 0.12, 0.1, 0.06
BIG_PURCHASES = 0.012  # of payments
PAYMENTS, TRANSFERS, WITHDRAWALS, DEPOSITS = (
    0.84,
    0.92,
    0.97,
    0.985,
)  # cumulative shares; the rest are refunds
COLLECTIONS_PER_CUSTOMER = 1 / 150


@dataclass(frozen=True)
class Month:
    """What is special for one customer during the simulation; times in seconds since its start."""

    away_from: float
    away_until: float
    away_addresses: tuple[Address, ...]
    new_phone_from: float
    new_phone: str


def honest_drafts(rng: np.random.Generator, world: World) -> Iterator[Draft]:
    """Yield everything honest customers do, in no order of time."""
    months = world.duration_s / DAY_S / 30
    for customer in world.customers:
        month = _month(rng, world, customer, months)
        yield from _everyday(rng, world, customer, month)
        if rng.random() < GOES_SHOPPING * months:
            yield from _shopping_spree(rng, world, customer)
        if rng.random() < PLAYS * months:
            yield from _microtransactions(rng, world, customer)
    for _ in range(max(1, round(len(world.customers) * COLLECTIONS_PER_CUSTOMER * months))):
        yield from _collection(rng, world)


def local_offset_h(longitude: float) -> int:
    """Return the hours a place is ahead of UTC, by its longitude."""
    return max(-12, min(14, round(longitude / 15)))


def active_time(rng: np.random.Generator, customer: Customer, *, day: float) -> float:
    """Return a time on `day` (a number of days) when the customer is usually awake and about."""
    local = float(rng.normal(customer.peak_hour, customer.hour_spread)) % 24
    return (floor(day) + (local - local_offset_h(customer.home.longitude)) % 24 / 24) * DAY_S


def usual_amount(rng: np.random.Generator, customer: Customer, merchant: Merchant) -> float:
    """Return what `customer` pays at `merchant` on a usual day, in EUR."""
    exact = float(np.exp(merchant.log_level + customer.log_spending + rng.normal(0, AMOUNT_SPREAD)))
    if rng.random() < 0.15:
        return max(5.0, round(exact / 5) * 5.0)
    return max(0.5, exact)


def any_address(rng: np.random.Generator, world: World, customer: Customer) -> Address:
    """Return where the customer is online from: mostly one home address, sometimes another, or nowhere known."""
    draw = rng.random()
    if customer.hides_behind is not None and draw < 0.6:
        return customer.hides_behind
    if draw > 0.98 and world.places.unknown:
        return pick(rng, world.places.unknown)
    if draw > 0.65:
        return pick(rng, customer.addresses)
    return customer.addresses[0]


def payment(
    rng: np.random.Generator, world: World, customer: Customer, merchant: Merchant, *, at: float
) -> Draft:
    """Return a usual payment: a shop's terminal sees neither address nor device."""
    card = pick(rng, customer.cards)
    draft = Draft(
        at=at,
        customer=customer,
        scenario=Scenario.EVERYDAY,
        transaction_type=TransactionType.PAYMENT,
        channel=Channel.POS,
        amount=usual_amount(rng, customer, merchant),
        merchant=merchant,
        card=card,
    )
    return online(rng, world, draft) if merchant.is_online or rng.random() < 0.25 else draft


def online(rng: np.random.Generator, world: World, draft: Draft) -> Draft:
    """Return `draft` made from the customer's own device and network."""
    devices = draft.customer.devices
    return replace(
        draft,
        channel=Channel.MOBILE if rng.random() < 0.6 else Channel.WEB,
        device_id=devices[0 if rng.random() < 0.8 else -1],
        address=any_address(rng, world, draft.customer),
    )


def transfer(rng: np.random.Generator, world: World, customer: Customer, *, at: float) -> Draft:
    """Return a transfer, mostly to somebody paid before."""
    known = rng.random() < 0.88
    payee = pick(rng, customer.payees) if known else world.new_name("payee")
    draft = Draft(
        at=at,
        customer=customer,
        scenario=Scenario.EVERYDAY,
        transaction_type=TransactionType.TRANSFER,
        channel=Channel.MOBILE,
        amount=float(np.exp(rng.normal(4.6 + customer.log_spending, 1.0))),
        counterparty_id=payee,
    )
    return online(rng, world, draft)


def _month(rng: np.random.Generator, world: World, customer: Customer, months: float) -> Month:
    away_from = away_until = new_phone_from = np.inf
    away: tuple[Address, ...] = ()
    if rng.random() < TRAVELS * months:
        away_from = float(rng.random() * world.duration_s)
        away_until = away_from + float(rng.uniform(2, 8)) * DAY_S
        away = tuple(world.places.abroad(rng, customer.home.country).addresses[:3])
    if rng.random() < CHANGES_PHONE * months:
        new_phone_from = float(rng.uniform(customer.joined_at, world.duration_s))
    return Month(away_from, away_until, away, new_phone_from, f"{customer.devices[0]}-new")


def _everyday(rng: np.random.Generator, world: World, customer: Customer, month: Month) -> Iterator[Draft]:
    first_day, days = customer.joined_at / DAY_S, world.duration_s / DAY_S
    for day in rng.uniform(first_day, days, size=rng.poisson(customer.per_day * (days - first_day))).tolist():
        at = active_time(rng, customer, day=day)
        if customer.joined_at <= at < world.duration_s:
            yield _in_month(rng, _usual(rng, world, customer, at), month)


def _usual(rng: np.random.Generator, world: World, customer: Customer, at: float) -> Draft:
    draw = rng.random()
    if draw < PAYMENTS:
        return _usual_payment(rng, world, customer, at)
    if draw < TRANSFERS:
        return transfer(rng, world, customer, at=at)
    card = customer.cards[0]
    draft = Draft(
        at=at,
        customer=customer,
        scenario=Scenario.EVERYDAY,
        transaction_type=TransactionType.WITHDRAWAL,
        channel=Channel.ATM,
        amount=float(rng.choice([20, 50, 50, 100, 200])),
        card=card,
    )
    if draw < WITHDRAWALS:
        return draft
    if draw < DEPOSITS:
        salary = float(np.exp(rng.normal(6.5 + customer.log_spending, 0.7)))
        return online(
            rng, world, replace(draft, transaction_type=TransactionType.DEPOSIT, amount=salary, card=None)
        )
    merchant = customer.favourites[0]
    refunded = usual_amount(rng, customer, merchant)
    return replace(
        draft,
        transaction_type=TransactionType.REFUND,
        channel=Channel.API,
        amount=refunded,
        merchant=merchant,
    )


def _usual_payment(rng: np.random.Generator, world: World, customer: Customer, at: float) -> Draft:
    if rng.random() < BIG_PURCHASES:
        shops = world.by_category[pick(rng, BIG_CATEGORIES)]
        draft = payment(rng, world, customer, pick(rng, shops), at=at)
        return replace(draft, amount=draft.amount * float(rng.uniform(3, 14)), scenario=Scenario.BIG_PURCHASE)
    shops = customer.favourites if rng.random() < 0.75 else world.merchants
    return payment(rng, world, customer, pick(rng, shops), at=at)


def _in_month(rng: np.random.Generator, draft: Draft, month: Month) -> Draft:
    if draft.device_id is not None and draft.at >= month.new_phone_from:
        draft = replace(draft, device_id=month.new_phone)
        if draft.at < month.new_phone_from + 3 * DAY_S:
            draft = replace(draft, scenario=Scenario.NEW_PHONE)
    if month.away_from <= draft.at < month.away_until:
        draft = replace(draft, scenario=Scenario.TRAVEL)
        if draft.address is not None:
            draft = replace(draft, address=pick(rng, month.away_addresses))
    return draft


def _shopping_spree(rng: np.random.Generator, world: World, customer: Customer) -> Iterator[Draft]:
    at = active_time(rng, customer, day=rng.uniform(customer.joined_at, world.duration_s) / DAY_S)
    for _ in range(int(rng.integers(4, 10))):
        at += float(rng.exponential(12 * 60))
        shop = pick(rng, world.merchants)
        draft = payment(rng, world, customer, shop, at=at)
        yield replace(draft, amount=draft.amount * 1.5, scenario=Scenario.SHOPPING_SPREE)


def _microtransactions(rng: np.random.Generator, world: World, customer: Customer) -> Iterator[Draft]:
    shops = world.by_category["digital_goods"]
    shop = pick(rng, shops)
    at = active_time(rng, customer, day=rng.uniform(customer.joined_at, world.duration_s) / DAY_S)
    first = online(rng, world, payment(rng, world, customer, shop, at=at))
    for _ in range(int(rng.integers(5, 16))):
        at += float(rng.exponential(90))
        amount = float(rng.choice([0.99, 1.99, 2.99, 4.99]))
        yield replace(first, at=at, amount=amount, scenario=Scenario.MICROTRANSACTIONS)


def _collection(rng: np.random.Generator, world: World) -> Iterator[Draft]:
    """A school trip, a gift: many customers pay the same new counterparty within a day or two."""
    payee = world.new_name("payee-collection")
    begins, each = rng.random() * world.duration_s, float(rng.choice([15, 25, 40, 80, 250]))
    givers = rng.choice(
        len(world.customers), size=min(len(world.customers), int(rng.integers(8, 21))), replace=False
    )
    for giver in givers.tolist():
        draft = transfer(rng, world, world.customers[giver], at=begins + float(rng.random() * 1.5 * DAY_S))
        yield replace(draft, counterparty_id=payee, amount=each, scenario=Scenario.COLLECTION)
