"""The features: what each is called, what it tells a person, and how it is made. Pure; its clock is event_time.

NaN means unknown, which is never the same as safe. Counts and sums exclude the transaction itself.
The file is over the house limit because it is the table of all features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import asin, cos, log1p, nan, radians, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.velocity import DAY_US, Entity, Reading, VelocityReading
from common.contracts.currencies import EXPONENTS
from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from common.contracts.transactions import Channel, TransactionType

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG
NIGHT_FROM, NIGHT_TO = 23, 6
MIN_SPEED_HOURS = 1 / 60
SATURDAY = 5

Row = list[int]
Source = Callable[["FeatureInput"], float]


@dataclass(frozen=True, slots=True)
class FeatureInput:
    """What features are made of: the transaction, where its address is, and the rows of its velocity reading."""

    accepted: AcceptedTransaction
    location: GeoLocation
    rows: list[Row]


@dataclass(frozen=True)
class Feature:
    """One feature: its family groups it in `signals`; `code` and `message` are its reason."""

    name: str
    family: str
    code: str
    message: str
    source: Source


def build_features(
    accepted: AcceptedTransaction, *, location: GeoLocation, velocity: VelocityReading
) -> NDArray[np.float64]:
    """Return the feature vector, float64 of shape (len(FEATURES),), in the order of `FEATURE_NAMES`."""
    given = FeatureInput(accepted, location, velocity.values.tolist())
    return np.array([feature.source(given) for feature in FEATURES], dtype=np.float64)


def _count(entity: Entity, reading: Reading) -> Source:
    def source(given: FeatureInput) -> float:
        row = given.rows[entity]
        return float(row[reading]) if row[Reading.KNOWN] else nan

    return source


def _sum(entity: Entity, reading: Reading) -> Source:
    def source(given: FeatureInput) -> float:
        row = given.rows[entity]
        return row[reading] / _unit(given) if row[Reading.KNOWN] else nan

    return source


def _unit(given: FeatureInput) -> float:
    """Return how many minor units one unit of the base currency has."""
    return float(10 ** EXPONENTS[given.accepted.institution.base_currency])


def _amount(given: FeatureInput) -> float:
    minor = given.accepted.amount_base_minor
    return nan if minor is None else minor / _unit(given)


def _amount_log(given: FeatureInput) -> float:
    return log1p(_amount(given))


def _amount_to_mean(given: FeatureInput) -> float:
    """Divide the amount by the customer's mean over 30 days; unknown without history."""
    row = given.rows[Entity.CUSTOMER]
    count, total = row[Reading.COUNT_30D], row[Reading.SUM_30D]
    if count == 0 or total == 0:
        return nan
    return _amount(given) * _unit(given) * count / total


def _is_round_amount(given: FeatureInput) -> float:
    return float(given.accepted.transaction.amount % 10 == 0)


def _hour_of_day(given: FeatureInput) -> float:
    return float(given.accepted.transaction.event_time.hour)


def _is_night(given: FeatureInput) -> float:
    hour = given.accepted.transaction.event_time.hour
    return float(hour >= NIGHT_FROM or hour < NIGHT_TO)


def _is_weekend(given: FeatureInput) -> float:
    return float(given.accepted.transaction.event_time.weekday() >= SATURDAY)


def _seconds_since_last(given: FeatureInput) -> float:
    row = given.rows[Entity.CUSTOMER]
    if row[Reading.KNOWN] < 2:
        return nan
    return (given.accepted.event_time_us - row[Reading.LAST_TIME]) / 1e6


def _days_since_first(given: FeatureInput) -> float:
    row = given.rows[Entity.CUSTOMER]
    if row[Reading.KNOWN] < 2:
        return 0.0
    return (given.accepted.event_time_us - row[Reading.FIRST_TIME]) / DAY_US


def _is_new(entity: Entity) -> Source:
    """Say whether a pair or thing was not seen in 30 days; unknown when the transaction does not name it."""

    def source(given: FeatureInput) -> float:
        row = given.rows[entity]
        return float(row[Reading.COUNT_30D] == 0) if row[Reading.KNOWN] else nan

    return source


def _kilometres_from_last(given: FeatureInput) -> float:
    row, location = given.rows[Entity.CUSTOMER], given.location
    if row[Reading.KNOWN] < 2 or row[Reading.LAST_PLACE_TIME] < 0:
        return nan
    if location.latitude is None or location.longitude is None:
        return nan
    return haversine_km(
        row[Reading.LAST_LATITUDE_E6] / 1e6,
        row[Reading.LAST_LONGITUDE_E6] / 1e6,
        location.latitude,
        location.longitude,
    )


def _speed_kmh(given: FeatureInput) -> float:
    """Divide that distance by the time between the two places, at least a minute."""
    kilometres = _kilometres_from_last(given)
    elapsed_us = given.accepted.event_time_us - given.rows[Entity.CUSTOMER][Reading.LAST_PLACE_TIME]
    return kilometres / max(abs(elapsed_us) / 3.6e9, MIN_SPEED_HOURS)


def haversine_km(latitude_1: float, longitude_1: float, latitude_2: float, longitude_2: float) -> float:
    """Return the great-circle distance in kilometres between two points in degrees (haversine formula)."""
    north = radians(latitude_2 - latitude_1)
    east = radians(longitude_2 - longitude_1)
    chord = sin(north / 2) ** 2 + cos(radians(latitude_1)) * cos(radians(latitude_2)) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord)))


def _is_ip_country_known(given: FeatureInput) -> float:
    return float(given.location.status is GeoStatus.FOUND and given.location.country is not None)


def _ip_country_differs_from_billing(given: FeatureInput) -> float:
    return _differs(given.location.country, given.accepted.transaction.billing_country)


def _ip_country_differs_from_card(given: FeatureInput) -> float:
    method = given.accepted.transaction.payment_method
    return _differs(given.location.country, method.card_country if method else None)


def _differs(left: str | None, right: str | None) -> float:
    return nan if left is None or right is None else float(left != right)


def _is_hosting(given: FeatureInput) -> float:
    kind = given.location.network_kind
    return nan if kind is None else float(kind is NetworkKind.HOSTING)


def _is_type(kind: TransactionType) -> Source:
    return lambda given: float(given.accepted.transaction.transaction_type is kind)


def _is_channel(channel: Channel) -> Source:
    def source(given: FeatureInput) -> float:
        named = given.accepted.transaction.channel
        return nan if named is None else float(named is channel)

    return source


_CUSTOMER, _CARD, _DEVICE, _IP = Entity.CUSTOMER, Entity.CARD, Entity.DEVICE, Entity.IP
_MERCHANT, _COUNTERPARTY = Entity.MERCHANT, Entity.COUNTERPARTY

FEATURES: tuple[Feature, ...] = (
    Feature("amount", "amount", "AMOUNT", "The amount", _amount),
    Feature("amount_log", "amount", "AMOUNT", "The amount", _amount_log),
    Feature(
        "amount_to_mean_by_customer_30d",
        "amount",
        "AMOUNT_UNUSUAL_FOR_CUSTOMER",
        "The amount as a multiple of what this customer usually pays",
        _amount_to_mean,
    ),
    Feature("is_round_amount", "amount", "ROUND_AMOUNT", "The amount is round", _is_round_amount),
    Feature("hour_of_day", "time", "HOUR_OF_DAY", "The local hour", _hour_of_day),
    Feature("is_night", "time", "NIGHT_TIME", "It is night where the payer is", _is_night),
    Feature("is_weekend", "time", "WEEKEND", "It is the weekend", _is_weekend),
    Feature(
        "seconds_since_last_by_customer",
        "time",
        "TIME_SINCE_LAST",
        "Seconds since this customer's last transaction",
        _seconds_since_last,
    ),
    Feature(
        "days_since_first_by_customer",
        "time",
        "CUSTOMER_AGE",
        "Days since this customer was first seen",
        _days_since_first,
    ),
    *(
        Feature(
            f"count_by_{entity.name.lower()}_{window}",
            "device" if entity is _DEVICE else "counterparty" if entity is _COUNTERPARTY else "velocity",
            f"{entity.name}_VELOCITY",
            f"Transactions of this {entity.name.lower()} in the last {said}",
            _count(entity, reading),
        )
        for entity, windows in (
            (_CUSTOMER, ("5m", "1h", "24h", "7d")),
            (_CARD, ("5m", "1h", "24h")),
            (_DEVICE, ("5m", "1h", "24h")),
            (_IP, ("5m", "1h", "24h")),
            (_MERCHANT, ("1h",)),
            (_COUNTERPARTY, ("1h", "24h")),
        )
        for window, said, reading in (
            ("5m", "5 minutes", Reading.COUNT_5M),
            ("1h", "hour", Reading.COUNT_1H),
            ("24h", "24 hours", Reading.COUNT_24H),
            ("7d", "7 days", Reading.COUNT_7D),
        )
        if window in windows
    ),
    *(
        Feature(
            f"amount_sum_by_{entity.name.lower()}_{window}",
            "counterparty" if entity is _COUNTERPARTY else "velocity",
            f"{entity.name}_AMOUNT_VELOCITY",
            f"Money moved by this {entity.name.lower()} in the last {said}",
            _sum(entity, reading),
        )
        for entity, window, said, reading in (
            (_CUSTOMER, "1h", "hour", Reading.SUM_1H),
            (_CUSTOMER, "24h", "24 hours", Reading.SUM_24H),
            (_CARD, "24h", "24 hours", Reading.SUM_24H),
            (_COUNTERPARTY, "24h", "24 hours", Reading.SUM_24H),
        )
    ),
    Feature(
        "is_new_device_for_customer",
        "device",
        "NEW_DEVICE",
        "The device is new for this customer",
        _is_new(Entity.CUSTOMER_DEVICE),
    ),
    Feature(
        "is_new_merchant_for_customer",
        "counterparty",
        "NEW_MERCHANT",
        "The merchant is new for this customer",
        _is_new(Entity.CUSTOMER_MERCHANT),
    ),
    Feature(
        "is_new_counterparty_for_customer",
        "counterparty",
        "NEW_COUNTERPARTY",
        "The counterparty is new for this customer",
        _is_new(Entity.CUSTOMER_COUNTERPARTY),
    ),
    Feature(
        "distance_km_from_last_by_customer",
        "location",
        "DISTANCE_FROM_LAST",
        "Kilometres from this customer's last place",
        _kilometres_from_last,
    ),
    Feature(
        "speed_kmh_from_last_by_customer",
        "location",
        "IMPOSSIBLE_TRAVEL",
        "Speed in km/h at which this customer would have had to travel",
        _speed_kmh,
    ),
    Feature(
        "is_ip_country_known",
        "location",
        "LOCATION_KNOWN",
        "It is known where the address is",
        _is_ip_country_known,
    ),
    Feature(
        "ip_country_differs_from_billing",
        "location",
        "COUNTRY_MISMATCH",
        "The address lies in another country than the billing address",
        _ip_country_differs_from_billing,
    ),
    Feature(
        "ip_country_differs_from_card",
        "location",
        "CARD_COUNTRY_MISMATCH",
        "The address lies in another country than the card's issuer",
        _ip_country_differs_from_card,
    ),
    Feature(
        "is_hosting_network",
        "location",
        "HOSTING_NETWORK",
        "The address belongs to a hosting network",
        _is_hosting,
    ),
    Feature("is_transfer", "amount", "TRANSFER", "It is a transfer", _is_type(TransactionType.TRANSFER)),
    Feature(
        "is_withdrawal",
        "amount",
        "WITHDRAWAL",
        "It is a withdrawal",
        _is_type(TransactionType.WITHDRAWAL),
    ),
    Feature("is_web", "device", "CHANNEL", "It comes from the web", _is_channel(Channel.WEB)),
    Feature("is_mobile", "device", "CHANNEL", "It comes from a mobile app", _is_channel(Channel.MOBILE)),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
FAMILIES: tuple[str, ...] = ("velocity", "amount", "device", "location", "counterparty", "time")
