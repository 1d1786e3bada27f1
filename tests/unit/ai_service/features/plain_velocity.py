"""Velocity once more, as plain lists and dictionaries: what the compiled store is held against, bit by bit."""

from dataclasses import dataclass, field

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.velocity import (
    DAY_US,
    DAYS_IN_MONTH,
    DAYS_IN_WEEK,
    HOUR_US,
    HOURS_IN_WINDOW,
    KEEP_DAYS,
    KEEP_EXACT_US,
    KEEP_HOURS,
    LONG_EXACT_WINDOW_US,
    LONGEST_WINDOW_US,
    SHORT_WINDOW_US,
    Entity,
    Reading,
)
from common.contracts.geoip import GeoLocation

Numbers = list[int]


@dataclass
class PlainEntity:
    """What is kept of one thing that transactions name."""

    events: list[tuple[int, int]] = field(default_factory=list)
    hours: dict[int, list[int]] = field(default_factory=dict)
    days: dict[int, list[int]] = field(default_factory=dict)
    first: int = -1
    last: int = -1
    place: tuple[int, int, int] = (-1, 0, 0)

    def read(self, time: int) -> Numbers:
        exact = [
            [amount for when, amount in self.events if time - width < when <= time]
            for width in (SHORT_WINDOW_US, LONG_EXACT_WINDOW_US)
        ]
        counts = [number for amounts in exact for number in (len(amounts), sum(amounts))]
        for chain, unit, width in (
            (self.hours, HOUR_US, HOURS_IN_WINDOW),
            (self.days, DAY_US, DAYS_IN_WEEK),
            (self.days, DAY_US, DAYS_IN_MONTH),
        ):
            found = [entry for start, entry in chain.items() if time // unit - width < start <= time // unit]
            counts += [sum(entry[0] for entry in found), sum(entry[1] for entry in found)]
        return [2, *counts, self.first, self.last, *self.place]

    def add(self, time: int, amount: int, location: GeoLocation) -> None:
        newest = max((when for when, _ in self.events), default=None)
        if newest is None or time > newest - KEEP_EXACT_US:
            self.events.append((time, amount))
            newest = max(time, newest or time)
            self.events = [each for each in self.events if each[0] > newest - KEEP_EXACT_US]
        _add_bucket(self.hours, time // HOUR_US, KEEP_HOURS, amount)
        _add_bucket(self.days, time // DAY_US, KEEP_DAYS, amount)
        self.first = time if self.first < 0 else min(self.first, time)
        self.last = max(self.last, time)
        if location.latitude is not None and location.longitude is not None and time > self.place[0]:
            self.place = time, round(location.latitude * 1e6), round(location.longitude * 1e6)


def _add_bucket(chain: dict[int, list[int]], start: int, keep: int, amount: int) -> None:
    newest = max(chain, default=None)
    if newest is not None and start <= newest - keep:
        return
    entry = chain.setdefault(start, [0, 0])
    entry[0] += 1
    entry[1] += amount
    for old in [each for each in chain if each <= max(chain) - keep]:
        del chain[old]


@dataclass
class PlainVelocity:
    """Everything that was observed, by entity and its names."""

    entities: dict[tuple[str | None, ...], PlainEntity] = field(default_factory=dict)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def observe(self, accepted: AcceptedTransaction, location: GeoLocation) -> list[Numbers]:
        transaction, institution_id = accepted.transaction, accepted.institution_id
        time, horizon = accepted.event_time_us, accepted.received_at_us - LONGEST_WINDOW_US
        name = institution_id, transaction.transaction_id
        add = time > horizon and self.seen.get(name, horizon) <= horizon
        if add:
            self.seen[name] = time
        readings = []
        for entity, names in _entities(accepted).items():
            key = institution_id, entity.name, *names
            known = self.entities.get(key)
            if None in names:
                readings.append([0] * len(Reading))
                continue
            if known is None or known.last <= horizon:
                readings.append([1] + [0] * (len(Reading) - 1))
                known = PlainEntity()
            else:
                readings.append(known.read(time))
            if add:
                known.add(time, accepted.amount_base_minor or 0, location)
                self.entities[key] = known
        return readings


def _entities(accepted: AcceptedTransaction) -> dict[Entity, tuple[str | None, ...]]:
    transaction, method = accepted.transaction, accepted.transaction.payment_method
    customer, device = transaction.customer_id, transaction.device_id
    merchant, counterparty = transaction.merchant_id, transaction.counterparty_id
    address = transaction.ip_address
    return {
        Entity.CUSTOMER: (customer,),
        Entity.CARD: (method.card_token if method else None,),
        Entity.DEVICE: (device,),
        Entity.IP: (None if address is None else str(address),),
        Entity.MERCHANT: (merchant,),
        Entity.COUNTERPARTY: (counterparty,),
        Entity.CUSTOMER_DEVICE: (customer, device),
        Entity.CUSTOMER_MERCHANT: (customer, merchant),
        Entity.CUSTOMER_COUNTERPARTY: (customer, counterparty),
    }
