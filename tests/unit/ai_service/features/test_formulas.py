from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.definitions import (
    FEATURE_NAMES,
    UnknownFeatureError,
    build_features,
    plan_features,
)
from ai_service.features.velocity import DAY_US, Entity, Reading, VelocityReading
from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.transactions import Channel, PaymentMethod, TransactionType
from tests.factories import make_accepted
from tests.unit.ai_service.features.plain_features import PLAIN, FeatureInput

START = datetime(2026, 3, 1, tzinfo=UTC)
COUNTRIES = st.sampled_from([None, "DE", "FR"])
DEGREES = st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 90.0])


@st.composite
def accepted_transactions(draw: st.DrawFn) -> AcceptedTransaction:
    offset = timezone(timedelta(minutes=draw(st.integers(-14 * 60, 14 * 60))))
    accepted = make_accepted(
        institution=Institution(
            institution_id="ins_test",
            mode=InstitutionMode.SANDBOX,
            base_currency=draw(st.sampled_from(["EUR", "JPY", "BHD"])),
        ),
        transaction_type=draw(st.sampled_from(TransactionType)),
        channel=draw(st.none() | st.sampled_from(Channel)),
        amount=str(draw(st.sampled_from(["0", "10.00", "33.30", "9999999999999.99"]))),
        event_time=(START + timedelta(seconds=draw(st.integers(0, 10**7)))).astimezone(offset).isoformat(),
        billing_country=draw(COUNTRIES),
    )
    card_country = draw(COUNTRIES)
    method = draw(st.sampled_from([None, PaymentMethod(card_country=card_country)]))
    transaction = accepted.transaction.model_copy(update={"payment_method": method})
    return replace(
        accepted, transaction=transaction, amount_base_minor=draw(st.none() | st.integers(0, 10**15))
    )


@st.composite
def locations(draw: st.DrawFn) -> GeoLocation:
    is_placed = draw(st.booleans())
    return GeoLocation(
        status=draw(st.sampled_from(GeoStatus)),
        country=draw(COUNTRIES),
        latitude=draw(DEGREES) if is_placed else None,
        longitude=2 * draw(DEGREES) if is_placed else None,
        network_kind=draw(st.none() | st.sampled_from(NetworkKind)),
    )


@st.composite
def readings(draw: st.DrawFn) -> VelocityReading:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    now_us = int(START.timestamp() * 1e6)
    values = random.integers(0, 3, size=(len(Entity), len(Reading)))
    for row in values:
        row[Reading.KNOWN] = draw(st.integers(0, 2))
        if row[Reading.KNOWN] == 2:
            row[Reading.COUNT_5M : Reading.FIRST_TIME] *= random.integers(0, 10**12, size=10)
            row[[Reading.FIRST_TIME, Reading.LAST_TIME]] = now_us + random.integers(-DAY_US, DAY_US, size=2)
            row[Reading.LAST_PLACE_TIME] = draw(st.sampled_from([-1, now_us, int(row[Reading.LAST_TIME])]))
            row[Reading.LAST_LATITUDE_E6] = random.integers(-90 * 10**6, 90 * 10**6)
            row[Reading.LAST_LONGITUDE_E6] = random.integers(-180 * 10**6, 180 * 10**6)
    return VelocityReading(values.astype(np.int64), 1, counted=True)


def same_bits(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return bool(((left == right) | (np.isnan(left) & np.isnan(right))).all())


class TestKernel:
    @given(accepted=accepted_transactions(), location=locations(), velocity=readings())
    @settings(max_examples=300, deadline=None)
    def test_gives_the_bits_of_the_plain_formulas(
        self, accepted: AcceptedTransaction, location: GeoLocation, velocity: VelocityReading
    ) -> None:
        found = build_features(accepted, location=location, velocity=velocity)

        plain = FeatureInput(accepted, location, velocity.values.tolist())
        assert same_bits(found, np.array([PLAIN[name](plain) for name in FEATURE_NAMES]))

    @given(
        accepted=accepted_transactions(),
        location=locations(),
        velocity=readings(),
        names=st.sets(st.sampled_from(FEATURE_NAMES)),
    )
    @settings(max_examples=50, deadline=None)
    def test_gives_the_same_bits_when_only_some_are_wanted(
        self, accepted: AcceptedTransaction, location: GeoLocation, velocity: VelocityReading, names: set[str]
    ) -> None:
        plan = plan_features(names)

        found = plan.build(accepted, location=location, velocity=velocity)

        whole = build_features(accepted, location=location, velocity=velocity)
        assert same_bits(found, whole[[FEATURE_NAMES.index(name) for name in plan.names]])


class TestPlanFeatures:
    def test_keeps_the_order_of_the_catalogue(self) -> None:
        plan = plan_features(["is_web", "amount", "count_by_card_1h", "amount"])

        assert plan.names == ("amount", "count_by_card_1h", "is_web")

    def test_refuses_a_name_that_the_catalogue_does_not_have(self) -> None:
        with pytest.raises(UnknownFeatureError, match="amuont"):
            plan_features(["amount", "amuont"])

    def test_of_nothing_computes_nothing(self) -> None:
        reading = VelocityReading(np.zeros((len(Entity), len(Reading)), dtype=np.int64), 1, counted=True)
        nowhere = GeoLocation(status=GeoStatus.UNKNOWN)

        assert plan_features([]).build(make_accepted(), location=nowhere, velocity=reading).shape == (0,)


class TestUnknown:
    def test_is_not_a_number_where_the_place_is_known_only_in_part(self) -> None:
        values = np.ones((len(Entity), len(Reading)), dtype=np.int64)
        values[:, Reading.KNOWN] = 2
        half = GeoLocation(status=GeoStatus.FOUND, country="DE", latitude=52.5)

        found = plan_features(["distance_km_from_last_by_customer", "speed_kmh_from_last_by_customer"]).build(
            make_accepted(), location=half, velocity=VelocityReading(values, 1, counted=True)
        )

        assert all(isnan(value) for value in found)
