from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address

import numpy as np
import pytest

from ai_service.ml.simulated_people import FRAUDS, Scenario
from ai_service.ml.simulated_places import UNKNOWN, TooFewPlacesError, draw_places, locate_by_hash
from ai_service.ml.simulator import SimulatedTransaction, simulate
from common.contracts.geoip import GeoLocation, GeoStatus, NetworkKind
from common.contracts.transactions import Channel, TransactionType

START = datetime(2026, 3, 2, tzinfo=UTC)


@cache
def simulated() -> list[SimulatedTransaction]:
    return list(simulate(seed=11, start=START, customers=300, days=15))


def of(scenario: Scenario) -> list[SimulatedTransaction]:
    return [example for example in simulated() if example.scenario is scenario]


class TestSimulate:
    def test_gives_the_same_bytes_for_the_same_seed(self) -> None:
        again = simulate(seed=11, start=START, customers=300, days=15)

        assert [(example.transaction.body, example.is_fraud) for example in again] == [
            (example.transaction.body, example.is_fraud) for example in simulated()
        ]

    def test_gives_others_for_another_seed(self) -> None:
        other = next(simulate(seed=12, start=START, customers=60, days=5))

        assert other.transaction.canonical["amount"] != simulated()[0].transaction.canonical["amount"]

    def test_yields_in_the_order_of_event_times_within_the_period(self) -> None:
        times = [example.transaction.event_time for example in simulated()]

        assert times == sorted(times)
        assert times[0] >= START
        assert times[-1] < START + timedelta(days=15)

    def test_names_every_transaction_once(self) -> None:
        names = {example.transaction.transaction_id for example in simulated()}

        assert len(names) == len(simulated())
        assert "sim-11-0000001" in names

    def test_tells_every_story(self) -> None:
        assert {example.scenario for example in simulated()} == set(Scenario)

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_tells_every_fraud_also_in_a_short_demo(self, seed: int) -> None:
        short = simulate(seed=seed, start=START, customers=60, days=8)

        assert {example.scenario for example in short} >= FRAUDS

    def test_marks_the_stories_of_fraud_and_no_other(self) -> None:
        assert all(example.is_fraud is (example.scenario in FRAUDS) for example in simulated())

    def test_keeps_near_the_fraud_rate_asked_for(self) -> None:
        rate = sum(example.is_fraud for example in simulated()) / len(simulated())

        assert 0.02 < rate < 0.045

    def test_mostly_uses_the_base_currency(self) -> None:
        currencies = [example.transaction.currency for example in simulated()]

        assert currencies.count("EUR") > 0.6 * len(currencies)
        assert len(set(currencies)) >= 4

    def test_uses_every_type_and_channel(self) -> None:
        assert {example.transaction.transaction_type for example in simulated()} == set(TransactionType)
        assert {example.transaction.channel for example in simulated()} == set(Channel)

    def test_keeps_the_offset_of_the_customers_home(self) -> None:
        offsets = defaultdict(set)
        for example in simulated():
            offsets[example.transaction.customer_id].add(example.transaction.event_time.utcoffset())

        assert all(len(found) == 1 for found in offsets.values())
        assert len(set.union(*offsets.values())) > 1


class TestLocations:
    def test_are_what_the_look_up_says_of_the_address(self) -> None:
        for example in simulated():
            address = example.transaction.ip_address
            expected = UNKNOWN if address is None else locate_by_hash([str(address)])[0]
            assert example.location == expected

    def test_are_unknown_for_a_few_addresses(self) -> None:
        located = [example.location for example in simulated() if example.transaction.ip_address]
        unknown = sum(location.status is GeoStatus.UNKNOWN for location in located) / len(located)

        assert 0.005 < unknown < 0.08

    def test_come_from_public_addresses(self) -> None:
        addresses = {example.transaction.ip_address for example in simulated()} - {None}

        assert all(address and address.is_global and not address.is_multicast for address in addresses)

    def test_agree_with_home_for_most_honest_payments(self) -> None:
        everyday = [example for example in of(Scenario.EVERYDAY) if example.location.country]
        at_home = sum(example.location.country == example.transaction.billing_country for example in everyday)

        assert at_home > 0.95 * len(everyday)

    def test_follow_any_look_up_the_caller_brings(self) -> None:
        asked: list[str] = []

        def odd_and_even(addresses: Sequence[str]) -> list[GeoLocation]:
            asked.extend(addresses)
            places = {0: ("DE", 52.5, 13.4), 1: ("JP", 35.7, 139.7)}
            return [
                GeoLocation(status=GeoStatus.FOUND, country=country, latitude=north, longitude=east)
                for country, north, east in (places[int(ip_address(address)) % 2] for address in addresses)
            ]

        found = list(simulate(seed=5, start=START, customers=60, days=6, locate=odd_and_even))

        assert {example.transaction.billing_country for example in found} == {"DE", "JP"}
        assert {str(example.transaction.ip_address) for example in found} - {"None"} <= set(asked)

    def test_cannot_be_made_from_a_look_up_that_knows_nothing(self) -> None:
        with pytest.raises(TooFewPlacesError):
            next(simulate(seed=5, start=START, customers=60, locate=lambda asked: [UNKNOWN] * len(asked)))


class TestDrawPlaces:
    def test_keeps_hosting_networks_out_of_homes(self) -> None:
        places = draw_places(np.random.default_rng(1), locate_by_hash, addresses=2000)

        homes = [address for city in places.cities for address in city.addresses]
        assert all(home.location.network_kind is not NetworkKind.HOSTING for home in homes)
        assert all(host.location.network_kind is NetworkKind.HOSTING for host in places.hosting)

    def test_travels_to_another_country(self) -> None:
        rng = np.random.default_rng(1)
        places = draw_places(rng, locate_by_hash, addresses=2000)

        assert all(places.abroad(rng, "DE").country != "DE" for _ in range(50))


class TestScenarios:
    def test_card_testing_is_many_cards_and_small_amounts_from_one_device(self) -> None:
        bursts = defaultdict(list)
        for example in of(Scenario.CARD_TESTING):
            bursts[example.transaction.device_id].append(example.transaction)

        assert bursts
        for burst in bursts.values():
            cards = {found.payment_method.card_token for found in burst if found.payment_method}
            assert len(cards) > 0.5 * len(burst)
            assert len({found.ip_address for found in burst}) == 1

    def test_mule_payouts_reach_one_counterparty_from_many_customers(self) -> None:
        payouts = defaultdict(set)
        for example in of(Scenario.MULE_PAYOUT):
            payouts[example.transaction.counterparty_id].add(example.transaction.customer_id)

        assert payouts
        assert max(len(customers) for customers in payouts.values()) >= 5

    def test_takeovers_mostly_come_from_devices_the_customer_never_used(self) -> None:
        own = defaultdict(set)
        for example in of(Scenario.EVERYDAY):
            own[example.transaction.customer_id].add(example.transaction.device_id)
        takeovers = [example.transaction for example in of(Scenario.ACCOUNT_TAKEOVER)]

        strange = [found for found in takeovers if found.device_id not in own[found.customer_id]]

        assert len(strange) > 0.6 * len(takeovers)

    def test_travel_takes_honest_customers_abroad(self) -> None:
        countries = [
            (example.location.country, example.transaction.billing_country)
            for example in of(Scenario.TRAVEL)
            if example.location.country
        ]

        assert countries
        assert all(seen != home for seen, home in countries)

    def test_a_collection_looks_like_a_mule_and_is_honest(self) -> None:
        collections = of(Scenario.COLLECTION)

        assert len({example.transaction.customer_id for example in collections}) >= 5
        assert not any(example.is_fraud for example in collections)
