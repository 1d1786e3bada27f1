"""What is counted, declared as data: entities, windows, and the columns of a reading.

A window ends at the transaction's event time t and excludes the transaction itself. `5m` and `1h` are exact,
(t - w, t]. `24h` is the UTC clock hour that holds t and the 23 before it; `7d` and `30d` are the UTC day that
holds t and the 6 or 29 before it: everything observed so far in those hours or days counts.

Exact events are kept until they are two hours older than the newest of their entity, hours for 48 hours and days
for 60 days: a transaction that comes later than that sees the part that was kept. An entity whose newest transaction
is 30 days older than the one that is received is forgotten: it is read as never seen, and counted from anew.
All attempts count, whatever their outcome. State is integers only, so that every store gives the same bits.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MINUTE_US = 60 * 1_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

SHORT_WINDOW_US = 5 * MINUTE_US
LONG_EXACT_WINDOW_US = HOUR_US
KEEP_EXACT_US = 2 * HOUR_US
HOURS_IN_WINDOW = 24
KEEP_HOURS = 48
DAYS_IN_WEEK = 7
DAYS_IN_MONTH = 30
KEEP_DAYS = 60
LONGEST_WINDOW_US = DAYS_IN_MONTH * DAY_US


class Entity(IntEnum):
    """What is counted by: one thing the transaction names, or a pair of them."""

    CUSTOMER = 0
    CARD = 1
    DEVICE = 2
    IP = 3
    MERCHANT = 4
    COUNTERPARTY = 5
    CUSTOMER_DEVICE = 6
    CUSTOMER_MERCHANT = 7
    CUSTOMER_COUNTERPARTY = 8


class Reading(IntEnum):
    """The columns of a reading. Sums are minor units of the base currency; times are microseconds since 1970."""

    KNOWN = 0
    COUNT_5M = 1
    SUM_5M = 2
    COUNT_1H = 3
    SUM_1H = 4
    COUNT_24H = 5
    SUM_24H = 6
    COUNT_7D = 7
    SUM_7D = 8
    COUNT_30D = 9
    SUM_30D = 10
    FIRST_TIME = 11
    LAST_TIME = 12
    LAST_PLACE_TIME = 13
    LAST_LATITUDE_E6 = 14
    LAST_LONGITUDE_E6 = 15


class VelocityReading(NamedTuple):
    """What the store knew just before a transaction was added.

    `values` is int64, one row per `Entity`, one column per `Reading`; `KNOWN` is 0 in rows of entities that the
    transaction does not name, 1 for one never seen before (or forgotten), 2 for one seen before. `observed_sequence` numbers the
    institution's observations; None when nobody could be asked, and then nothing is known. `counted` is false when the
    transaction was too old to be added, or was not added yet.
    """

    values: NDArray[np.int64]
    observed_sequence: int | None
    counted: bool


READING_SHAPE = len(Entity), len(Reading)


def nothing_known() -> VelocityReading:
    """Return the reading of a transaction that could not be observed: `KNOWN` is 0 everywhere, so features are unknown."""
    return VelocityReading(np.zeros(READING_SHAPE, dtype=np.int64), None, False)
