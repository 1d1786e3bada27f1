"""The features once more, each as a plain formula: what the compiled kernel is held against, bit by bit."""

from collections.abc import Callable
from dataclasses import dataclass
from math import asin, cos, log1p, nan, radians, sin, sqrt

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.velocity import DAY_US, Entity, Reading
from common.contracts.currencies import EXPONENTS
from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from common.contracts.transactions import Channel, TransactionType

EARTH_RADIUS_KM = 6371.0088
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
        return 0.0 if row[Reading.KNOWN] else nan
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
    chord = sin(north / 2) * sin(north / 2) + cos(radians(latitude_1)) * cos(radians(latitude_2)) * (
        sin(east / 2) * sin(east / 2)
    )
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


PLAIN: dict[str, Source] = {
    "amount": _amount,
    "amount_log": _amount_log,
    "amount_to_mean_by_customer_30d": _amount_to_mean,
    "is_round_amount": _is_round_amount,
    "hour_of_day": _hour_of_day,
    "is_night": _is_night,
    "is_weekend": _is_weekend,
    "seconds_since_last_by_customer": _seconds_since_last,
    "days_since_first_by_customer": _days_since_first,
    **{
        f"count_by_{entity.name.lower()}_{reading.name.removeprefix('COUNT_').lower()}": _count(
            entity, reading
        )
        for entity in Entity
        for reading in (Reading.COUNT_5M, Reading.COUNT_1H, Reading.COUNT_24H, Reading.COUNT_7D)
    },
    **{
        f"amount_sum_by_{entity.name.lower()}_{reading.name.removeprefix('SUM_').lower()}": _sum(
            entity, reading
        )
        for entity in Entity
        for reading in (Reading.SUM_1H, Reading.SUM_24H)
    },
    "is_new_device_for_customer": _is_new(Entity.CUSTOMER_DEVICE),
    "is_new_merchant_for_customer": _is_new(Entity.CUSTOMER_MERCHANT),
    "is_new_counterparty_for_customer": _is_new(Entity.CUSTOMER_COUNTERPARTY),
    "distance_km_from_last_by_customer": _kilometres_from_last,
    "speed_kmh_from_last_by_customer": _speed_kmh,
    "is_ip_country_known": _is_ip_country_known,
    "ip_country_differs_from_billing": _ip_country_differs_from_billing,
    "ip_country_differs_from_card": _ip_country_differs_from_card,
    "is_hosting_network": _is_hosting,
    "is_transfer": _is_type(TransactionType.TRANSFER),
    "is_withdrawal": _is_type(TransactionType.WITHDRAWAL),
    "is_web": _is_channel(Channel.WEB),
    "is_mobile": _is_channel(Channel.MOBILE),
}
