"""The compiled core of the features: one pass that fills a vector from a velocity reading and a few numbers.

A plan is an int64 array of shape (features, 3): for each feature its formula and the formula's two parameters.
`fill` is over the house limit because it is the list of all formulas. Whoever changes a constant of `velocity.py`
touches this file too: numba's cache looks at the file of the kernel only.
"""

from enum import IntEnum
from math import asin, cos, isnan, log1p, nan, radians, sin, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ai_service.features.velocity import DAY_US, Entity, Reading

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG
NIGHT_FROM, NIGHT_TO = 23, 6
MIN_SPEED_HOURS = 1 / 60
SATURDAY = 5
UNKNOWN = -1
"""Stands for what is not known among the whole numbers that `fill` takes."""


class Formula(IntEnum):
    """How a feature is made; the words in brackets are its parameters."""

    AMOUNT = 0
    AMOUNT_LOG = 1
    AMOUNT_TO_MEAN = 2
    IS_ROUND_AMOUNT = 3
    HOUR_OF_DAY = 4
    IS_NIGHT = 5
    IS_WEEKEND = 6
    SECONDS_SINCE_LAST = 7
    DAYS_SINCE_FIRST = 8
    COUNT = 9  # (entity, reading)
    SUM = 10  # (entity, reading)
    IS_NEW = 11  # (entity): not seen in 30 days
    KILOMETRES_FROM_LAST = 12
    SPEED_KMH = 13
    IS_COUNTRY_KNOWN = 14
    DIFFERS_FROM_BILLING = 15
    DIFFERS_FROM_CARD = 16
    IS_HOSTING = 17
    IS_TYPE = 18  # (number of the type)
    IS_CHANNEL = 19  # (number of the channel)


_AMOUNT, _AMOUNT_LOG, _AMOUNT_TO_MEAN = (
    Formula.AMOUNT.value,
    Formula.AMOUNT_LOG.value,
    Formula.AMOUNT_TO_MEAN.value,
)
_ROUND, _HOUR, _NIGHT, _WEEKEND = 3, 4, 5, 6
_SINCE_LAST, _SINCE_FIRST, _COUNT, _SUM, _IS_NEW = 7, 8, 9, 10, 11
_KILOMETRES, _SPEED, _COUNTRY_KNOWN, _BILLING, _CARD, _HOSTING, _TYPE, _CHANNEL = (
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
)
_CUSTOMER = Entity.CUSTOMER.value
_KNOWN, _COUNT_30D, _SUM_30D = Reading.KNOWN.value, Reading.COUNT_30D.value, Reading.SUM_30D.value
_FIRST_TIME, _LAST_TIME, _PLACE_TIME = (
    Reading.FIRST_TIME.value,
    Reading.LAST_TIME.value,
    Reading.LAST_PLACE_TIME.value,
)
_LATITUDE, _LONGITUDE = Reading.LAST_LATITUDE_E6.value, Reading.LAST_LONGITUDE_E6.value


@njit(cache=True)
def fill(
    plan: Ints,
    values: Ints,
    event_time: int,
    amount: int,
    unit: float,
    is_round: bool,
    hour: int,
    weekday: int,
    latitude: float,
    longitude: float,
    is_country_known: bool,
    differs_from_billing: int,
    differs_from_card: int,
    is_hosting: int,
    type_number: int,
    channel_number: int,
    out: Floats,
) -> None:
    """Fill `out`, float64 of shape (features,), with the features of `plan`; NaN is unknown.

    `values` is a velocity reading. `amount` is in minor units of the base currency, of which `unit` make one.
    `amount`, the numbers that answer yes (1) or no (0), and `channel_number` may be `UNKNOWN`, the coordinates NaN.
    """
    for index in range(plan.shape[0]):
        formula, entity, reading = plan[index, 0], plan[index, 1], plan[index, 2]
        found = nan
        if formula == _COUNT:
            if values[entity, _KNOWN] != 0:
                found = float(values[entity, reading])
        elif formula == _SUM:
            if values[entity, _KNOWN] != 0:
                found = float(values[entity, reading]) / unit
        elif formula == _IS_NEW:
            if values[entity, _KNOWN] != 0:
                found = 1.0 if values[entity, _COUNT_30D] == 0 else 0.0
        elif formula == _AMOUNT:
            found = _money(amount, unit)
        elif formula == _AMOUNT_LOG:
            found = log1p(_money(amount, unit))
        elif formula == _AMOUNT_TO_MEAN:
            count, total = values[_CUSTOMER, _COUNT_30D], values[_CUSTOMER, _SUM_30D]
            if count != 0 and total != 0:
                found = _money(amount, unit) * unit * float(count) / float(total)
        elif formula == _ROUND:
            found = 1.0 if is_round else 0.0
        elif formula == _HOUR:
            found = float(hour)
        elif formula == _NIGHT:
            found = 1.0 if hour >= NIGHT_FROM or hour < NIGHT_TO else 0.0
        elif formula == _WEEKEND:
            found = 1.0 if weekday >= SATURDAY else 0.0
        elif formula == _SINCE_LAST:
            if values[_CUSTOMER, _KNOWN] == 2:
                found = float(event_time - values[_CUSTOMER, _LAST_TIME]) / 1e6
        elif formula == _SINCE_FIRST:
            if values[_CUSTOMER, _KNOWN] == 1:
                found = 0.0
            elif values[_CUSTOMER, _KNOWN] == 2:
                found = float(event_time - values[_CUSTOMER, _FIRST_TIME]) / DAY_US
        elif formula == _KILOMETRES:
            found = _kilometres(values, latitude, longitude)
        elif formula == _SPEED:
            hours = abs(float(event_time - values[_CUSTOMER, _PLACE_TIME])) / 3.6e9
            found = _kilometres(values, latitude, longitude) / max(hours, MIN_SPEED_HOURS)
        elif formula == _COUNTRY_KNOWN:
            found = 1.0 if is_country_known else 0.0
        elif formula == _BILLING:
            found = _answer(differs_from_billing)
        elif formula == _CARD:
            found = _answer(differs_from_card)
        elif formula == _HOSTING:
            found = _answer(is_hosting)
        elif formula == _TYPE:
            found = 1.0 if type_number == entity else 0.0
        elif formula == _CHANNEL and channel_number != UNKNOWN:
            found = 1.0 if channel_number == entity else 0.0
        out[index] = found


@njit(cache=True)
def _money(amount: int, unit: float) -> float:
    return nan if amount == UNKNOWN else float(amount) / unit


@njit(cache=True)
def _answer(number: int) -> float:
    return nan if number == UNKNOWN else float(number)


@njit(cache=True)
def _kilometres(values: Ints, latitude: float, longitude: float) -> float:
    """Return the distance from the customer's last place, NaN when one of the two is unknown."""
    if values[_CUSTOMER, _KNOWN] != 2 or values[_CUSTOMER, _PLACE_TIME] < 0 or isnan(latitude + longitude):
        return nan
    return haversine_km(
        float(values[_CUSTOMER, _LATITUDE]) / 1e6,
        float(values[_CUSTOMER, _LONGITUDE]) / 1e6,
        latitude,
        longitude,
    )


@njit(cache=True)
def haversine_km(latitude_1: float, longitude_1: float, latitude_2: float, longitude_2: float) -> float:
    """Return the great-circle distance in kilometres between two points in degrees (haversine formula)."""
    north = sin(radians(latitude_2 - latitude_1) / 2)
    east = sin(radians(longitude_2 - longitude_1) / 2)
    chord = north * north + cos(radians(latitude_1)) * cos(radians(latitude_2)) * (east * east)
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord)))
