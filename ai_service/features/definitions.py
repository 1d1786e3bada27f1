"""The features: what each is called, what it tells a person, and how it is made. Pure; its clock is event_time.

NaN means unknown, which is never the same as safe. Counts and sums exclude the transaction itself.
The file is over the house limit because it is the table of all features.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import nan

import numpy as np
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.formulas import UNKNOWN, Formula, fill
from ai_service.features.velocity import Entity, Reading, VelocityReading
from common.contracts.currencies import EXPONENTS
from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from common.contracts.transactions import Channel, TransactionType

_TYPES = {kind: number for number, kind in enumerate(TransactionType)}
_CHANNELS: dict[Channel | None, int] = {
    **{channel: number for number, channel in enumerate(Channel)},
    None: UNKNOWN,
}
_UNITS = {currency: float(10**exponent) for currency, exponent in EXPONENTS.items()}


class UnknownFeatureError(Exception):
    """A feature is named that the catalogue does not have."""


@dataclass(frozen=True)
class Feature:
    """One feature: its family groups it in `signals`; `code` and `message` are its reason.

    `formula` makes it; `first` and `second` are the formula's parameters.
    """

    name: str
    family: str
    code: str
    message: str
    formula: Formula
    first: int = 0
    second: int = 0


@dataclass(frozen=True)
class FeaturePlan:
    """Which features are computed, in the order of the catalogue; make one with `plan_features`."""

    features: tuple[Feature, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the vector's numbers."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def _compiled(self) -> NDArray[np.int64]:
        rows = [(feature.formula, feature.first, feature.second) for feature in self.features]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def build(
        self, accepted: AcceptedTransaction, *, location: GeoLocation, velocity: VelocityReading
    ) -> NDArray[np.float64]:
        """Return the feature vector, float64 of shape (len(names),)."""
        transaction, country = accepted.transaction, location.country
        method, kind, latitude, longitude = (
            transaction.payment_method,
            location.network_kind,
            location.latitude,
            location.longitude,
        )
        amount, event_time = accepted.amount_base_minor, transaction.event_time
        vector = np.empty(len(self.features))
        fill(
            self._compiled,
            velocity.values,
            accepted.event_time_us,
            UNKNOWN if amount is None else amount,
            _UNITS[accepted.institution.base_currency],
            transaction.amount % 10 == 0,
            event_time.hour,
            event_time.weekday(),
            nan if latitude is None else latitude,
            nan if longitude is None else longitude,
            location.status is GeoStatus.FOUND and country is not None,
            _differs(country, transaction.billing_country),
            UNKNOWN if method is None else _differs(country, method.card_country),
            UNKNOWN if kind is None else int(kind is NetworkKind.HOSTING),
            _TYPES[transaction.transaction_type],
            _CHANNELS[transaction.channel],
            vector,
        )
        return vector


def build_features(
    accepted: AcceptedTransaction, *, location: GeoLocation, velocity: VelocityReading
) -> NDArray[np.float64]:
    """Return all features, float64 of shape (len(FEATURES),), in the order of `FEATURE_NAMES`."""
    return ALL_FEATURES.build(accepted, location=location, velocity=velocity)


def plan_features(names: Iterable[str]) -> FeaturePlan:
    """Return the plan that computes the features named; raises `UnknownFeatureError`."""
    wanted = set(names)
    if unknown := wanted.difference(FEATURE_NAMES):
        raise UnknownFeatureError(f"there are no features called {sorted(unknown)}")
    return FeaturePlan(tuple(feature for feature in FEATURES if feature.name in wanted))


def warm_up() -> None:
    """Compile the formulas, so that the first transaction does not wait for it."""
    values = np.zeros((len(Entity), len(Reading)), dtype=np.int64)
    plan, vector = ALL_FEATURES._compiled, np.empty(len(FEATURES))
    fill(plan, values, 0, 0, 1.0, False, 0, 0, nan, nan, False, 0, 0, 0, 0, 0, vector)


def _differs(left: str | None, right: str | None) -> int:
    return UNKNOWN if left is None or right is None else int(left != right)


_CUSTOMER, _CARD, _DEVICE, _IP = Entity.CUSTOMER, Entity.CARD, Entity.DEVICE, Entity.IP
_MERCHANT, _COUNTERPARTY = Entity.MERCHANT, Entity.COUNTERPARTY

FEATURES: tuple[Feature, ...] = (
    Feature("amount", "amount", "AMOUNT", "The amount", Formula.AMOUNT),
    Feature("amount_log", "amount", "AMOUNT", "The amount", Formula.AMOUNT_LOG),
    Feature(
        "amount_to_mean_by_customer_30d",
        "amount",
        "AMOUNT_UNUSUAL_FOR_CUSTOMER",
        "The amount as a multiple of what this customer usually pays",
        Formula.AMOUNT_TO_MEAN,
    ),
    Feature("is_round_amount", "amount", "ROUND_AMOUNT", "The amount is round", Formula.IS_ROUND_AMOUNT),
    Feature("hour_of_day", "time", "HOUR_OF_DAY", "The local hour", Formula.HOUR_OF_DAY),
    Feature("is_night", "time", "NIGHT_TIME", "It is night where the payer is", Formula.IS_NIGHT),
    Feature("is_weekend", "time", "WEEKEND", "It is the weekend", Formula.IS_WEEKEND),
    Feature(
        "seconds_since_last_by_customer",
        "time",
        "TIME_SINCE_LAST",
        "Seconds since this customer's last transaction",
        Formula.SECONDS_SINCE_LAST,
    ),
    Feature(
        "days_since_first_by_customer",
        "time",
        "CUSTOMER_AGE",
        "Days since this customer was first seen",
        Formula.DAYS_SINCE_FIRST,
    ),
    *(
        Feature(
            f"count_by_{entity.name.lower()}_{window}",
            "device" if entity is _DEVICE else "counterparty" if entity is _COUNTERPARTY else "velocity",
            f"{entity.name}_VELOCITY",
            f"Transactions of this {entity.name.lower()} in the last {said}",
            Formula.COUNT,
            entity,
            reading,
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
            Formula.SUM,
            entity,
            reading,
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
        Formula.IS_NEW,
        Entity.CUSTOMER_DEVICE,
    ),
    Feature(
        "is_new_merchant_for_customer",
        "counterparty",
        "NEW_MERCHANT",
        "The merchant is new for this customer",
        Formula.IS_NEW,
        Entity.CUSTOMER_MERCHANT,
    ),
    Feature(
        "is_new_counterparty_for_customer",
        "counterparty",
        "NEW_COUNTERPARTY",
        "The counterparty is new for this customer",
        Formula.IS_NEW,
        Entity.CUSTOMER_COUNTERPARTY,
    ),
    Feature(
        "distance_km_from_last_by_customer",
        "location",
        "DISTANCE_FROM_LAST",
        "Kilometres from this customer's last place",
        Formula.KILOMETRES_FROM_LAST,
    ),
    Feature(
        "speed_kmh_from_last_by_customer",
        "location",
        "IMPOSSIBLE_TRAVEL",
        "Speed in km/h at which this customer would have had to travel",
        Formula.SPEED_KMH,
    ),
    Feature(
        "is_ip_country_known",
        "location",
        "LOCATION_KNOWN",
        "It is known where the address is",
        Formula.IS_COUNTRY_KNOWN,
    ),
    Feature(
        "ip_country_differs_from_billing",
        "location",
        "COUNTRY_MISMATCH",
        "The address lies in another country than the billing address",
        Formula.DIFFERS_FROM_BILLING,
    ),
    Feature(
        "ip_country_differs_from_card",
        "location",
        "CARD_COUNTRY_MISMATCH",
        "The address lies in another country than the card's issuer",
        Formula.DIFFERS_FROM_CARD,
    ),
    Feature(
        "is_hosting_network",
        "location",
        "HOSTING_NETWORK",
        "The address belongs to a hosting network",
        Formula.IS_HOSTING,
    ),
    Feature(
        "is_transfer",
        "amount",
        "TRANSFER",
        "It is a transfer",
        Formula.IS_TYPE,
        _TYPES[TransactionType.TRANSFER],
    ),
    Feature(
        "is_withdrawal",
        "amount",
        "WITHDRAWAL",
        "It is a withdrawal",
        Formula.IS_TYPE,
        _TYPES[TransactionType.WITHDRAWAL],
    ),
    Feature(
        "is_web", "device", "CHANNEL", "It comes from the web", Formula.IS_CHANNEL, _CHANNELS[Channel.WEB]
    ),
    Feature(
        "is_mobile",
        "device",
        "CHANNEL",
        "It comes from a mobile app",
        Formula.IS_CHANNEL,
        _CHANNELS[Channel.MOBILE],
    ),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
FAMILIES: tuple[str, ...] = ("velocity", "amount", "device", "location", "counterparty", "time")
ALL_FEATURES = FeaturePlan(FEATURES)
