from datetime import timedelta
from math import isnan, log1p

import numpy as np
import pytest

from ai_service.features.accepted import EventTimeAheadError, accept, microseconds
from ai_service.features.definitions import FEATURE_NAMES, build_features
from ai_service.features.formulas import haversine_km
from ai_service.features.store import EmbeddedVelocity
from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from tests.factories import NOW, SANDBOX, make_accepted, make_transaction

BERLIN = GeoLocation(
    status=GeoStatus.FOUND,
    country="DE",
    latitude=52.52,
    longitude=13.405,
    network_kind=NetworkKind.RESIDENTIAL,
)
TOKYO = GeoLocation(
    status=GeoStatus.FOUND, country="JP", latitude=35.68, longitude=139.69, network_kind=NetworkKind.HOSTING
)
NOWHERE = GeoLocation(status=GeoStatus.UNAVAILABLE)


def named(store: EmbeddedVelocity, location: GeoLocation = BERLIN, **changes: object) -> dict[str, float]:
    accepted = make_accepted(**changes)  # type: ignore[arg-type]
    features = build_features(accepted, location=location, velocity=store.observe(accepted, location))
    return dict(zip(FEATURE_NAMES, features.tolist(), strict=True))


class TestBuildFeatures:
    def test_of_a_first_transaction(self) -> None:
        features = named(EmbeddedVelocity())

        assert features["amount"] == 25.0
        assert features["amount_log"] == log1p(25.0)
        assert features["count_by_customer_1h"] == 0.0
        assert features["is_new_device_for_customer"] == 1.0
        assert features["days_since_first_by_customer"] == 0.0
        assert isnan(features["amount_to_mean_by_customer_30d"])
        assert isnan(features["seconds_since_last_by_customer"])
        assert isnan(features["distance_km_from_last_by_customer"])

    def test_of_a_second_one_an_hour_later_on_the_other_side_of_the_world(self) -> None:
        store = EmbeddedVelocity()
        named(store)

        later = (NOW + timedelta(minutes=60)).isoformat()
        features = named(store, TOKYO, transaction_id="tx-2", event_time=later, amount="100.00")

        assert features["amount_to_mean_by_customer_30d"] == 4.0
        assert features["seconds_since_last_by_customer"] == 3600.0
        assert features["count_by_card_24h"] == 1.0
        assert features["count_by_card_1h"] == 0.0, "(t - 1 h, t] leaves out what is exactly an hour old"
        assert features["is_new_device_for_customer"] == 0.0
        assert features["speed_kmh_from_last_by_customer"] == pytest.approx(8918, abs=20)
        assert features["ip_country_differs_from_billing"] == 1.0
        assert features["is_hosting_network"] == 1.0

    def test_what_is_not_named_is_unknown_and_not_zero(self) -> None:
        features = named(
            EmbeddedVelocity(),
            NOWHERE,
            device_id=None,
            counterparty_id=None,
            channel=None,
            billing_country=None,
            payment_method=None,
            ip_address=None,
        )

        unknown = (
            "count_by_device_5m",
            "count_by_card_1h",
            "amount_sum_by_counterparty_24h",
            "is_new_device_for_customer",
            "ip_country_differs_from_billing",
            "ip_country_differs_from_card",
            "is_hosting_network",
            "is_web",
        )
        assert all(isnan(features[name]) for name in unknown)
        assert features["is_ip_country_known"] == 0.0

    def test_the_hour_is_the_payers_own(self) -> None:
        features = named(EmbeddedVelocity(), event_time="2026-11-01T23:30:00-05:00")

        assert features["hour_of_day"] == 23.0
        assert features["is_night"] == 1.0
        assert features["is_weekend"] == 1.0

    def test_an_amount_without_a_rate_is_unknown(self) -> None:
        transaction = make_transaction()
        accepted = accept(
            transaction, SANDBOX, amount_base_minor=None, now=NOW, accepted_by="usr_test", request_id=""
        )

        features = build_features(
            accepted, location=BERLIN, velocity=EmbeddedVelocity().observe(accepted, BERLIN)
        )

        assert np.isnan(features[FEATURE_NAMES.index("amount")])
        assert np.isnan(features[FEATURE_NAMES.index("amount_log")])


class TestHaversine:
    def test_of_known_distances(self) -> None:
        assert haversine_km(52.52, 13.405, 48.8566, 2.3522) == pytest.approx(877.5, abs=1)
        assert haversine_km(0, 0, 0, 180) == pytest.approx(20015.1, abs=1)
        assert haversine_km(10, 20, 10, 20) == 0.0


class TestAccept:
    def test_refuses_an_event_more_than_five_minutes_ahead(self) -> None:
        ahead = make_transaction(event_time=(NOW + timedelta(seconds=301)).isoformat())

        with pytest.raises(EventTimeAheadError):
            accept(ahead, SANDBOX, amount_base_minor=1, now=NOW, accepted_by="u", request_id="")

    def test_counts_microseconds_exactly(self) -> None:
        assert microseconds(NOW.replace(microsecond=1)) % 1_000_000 == 1
