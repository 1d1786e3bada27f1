from math import nan

import numpy as np
import pytest

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.rules.catalog import starter_ruleset
from ai_service.rules.engine import Rule, RuleInvalidError, Ruleset
from ai_service.rules.variables import VARIABLES, features_in, variables_in
from common.contracts.geoip import GeoLocation, GeoStatus
from tests.factories import make_accepted, make_features, make_rule

BERLIN = GeoLocation(status=GeoStatus.FOUND, country="DE", latitude=52.5, longitude=13.4)


def hits(*rules: Rule, location: GeoLocation = BERLIN, **features: float) -> list[tuple[str, str | None]]:
    ruleset = Ruleset(rules, version=1)
    found = ruleset.evaluate(make_accepted(amount="25.00"), location, make_features(**features), 0.5)
    return [(hit.rule.rule_id, hit.error) for hit in found]


class TestRuleset:
    def test_returns_the_rules_whose_condition_is_true_in_their_order(self) -> None:
        found = hits(
            make_rule(rule_id="by_amount", condition="transaction.amount > 20.0"),
            make_rule(rule_id="by_text", condition='transaction.currency == "USD"'),
            make_rule(rule_id="by_feature", condition="features.count_by_card_1h >= 3.0"),
            make_rule(rule_id="by_score", condition="score.fraud_probability == 0.5"),
            make_rule(rule_id="by_place", condition='location.country == "DE" && location.latitude > 50.0'),
            count_by_card_1h=3.0,
        )

        assert found == [("by_amount", None), ("by_feature", None), ("by_score", None), ("by_place", None)]

    def test_an_unknown_number_makes_every_comparison_false(self) -> None:
        found = hits(
            make_rule(rule_id="above", condition="features.amount > 0.0"),
            make_rule(rule_id="below", condition="features.amount <= 0.0"),
            make_rule(rule_id="unknown", condition="!known(features.amount)"),
            amount=nan,
        )

        assert found == [("unknown", None)]

    def test_one_failing_rule_is_reported_and_the_others_still_count(self) -> None:
        failing = make_rule(rule_id="failing", condition="1 / int(features.is_night) > 0")

        found = hits(failing, make_rule(rule_id="good"), is_night=0.0)

        assert found == [("failing", "the condition could not be evaluated"), ("good", None)]

    def test_a_rule_that_failed_once_is_evaluated_apart_and_the_results_stay_the_same(self) -> None:
        ruleset = Ruleset(
            [
                make_rule(rule_id="first", condition="features.amount > 1.0"),
                make_rule(rule_id="failing", condition="1 / int(features.is_night) > 0"),
                make_rule(rule_id="last", condition="features.is_web == 1.0"),
            ],
            version=1,
        )

        def found(**features: float) -> list[tuple[str, bool]]:
            hits = ruleset.evaluate(make_accepted(), BERLIN, make_features(**features), 0.5)
            return [(hit.rule.rule_id, hit.error is not None) for hit in hits]

        assert found(is_night=1.0, amount=2.0) == [("first", False), ("failing", False)]
        for _ in range(3):
            assert found(is_night=0.0, amount=2.0) == [("first", False), ("failing", True)]
            assert found(is_night=0.0, is_web=1.0) == [("failing", True), ("last", False)]
            assert found(is_night=1.0, is_web=1.0) == [("failing", False), ("last", False)]
            assert found(is_night=2.0) == []

    def test_rules_that_fail_one_after_the_other_are_all_reported(self) -> None:
        ruleset = Ruleset(
            [
                make_rule(rule_id=name, condition=f"1 / int(features.{name}) > 0")
                for name in ("is_night", "is_web")
            ],
            version=1,
        )

        def failed(**features: float) -> list[str]:
            hits = ruleset.evaluate(make_accepted(), BERLIN, make_features(**features), 0.5)
            return [hit.rule.rule_id for hit in hits if hit.error]

        assert failed(is_web=1.0) == ["is_night"]
        assert failed(is_night=1.0) == ["is_web"]
        assert failed() == ["is_night", "is_web"]

    def test_reads_a_vector_in_the_order_it_was_compiled_for(self) -> None:
        rules = [
            make_rule(rule_id="amount", condition="features.amount == 7.0"),
            make_rule(rule_id="web", condition="features.is_web == 1.0"),
        ]
        ruleset = Ruleset(rules, version=1, feature_names=("is_web", "amount"))

        hits = ruleset.evaluate(make_accepted(), BERLIN, np.array([1.0, 7.0]), 0.5)

        assert [hit.rule.rule_id for hit in hits] == ["amount", "web"]

    def test_refuses_a_feature_that_is_not_computed(self) -> None:
        with pytest.raises(RuleInvalidError, match="is not computed"):
            Ruleset(
                [make_rule(condition="features.amount > 1.0")],
                version=1,
                feature_names=("is_web", "is_mobile"),
            )

    @pytest.mark.parametrize(
        "condition",
        [
            "features.count_by_card_1h > 2.0 // features.amount\n",
            "features . count_by_card_1h > 2.0 // and no line break",
            "(features\n.count_by_card_1h > 2.0)",
            'features.count_by_card_1h > 2.0 && "features.amount" != r"\\n" && "\\"" != "a"',
            'features.count_by_card_1h > 2.0 && """features.is_web "quoted" """ != \'features.is_web\'',
            "[1.0, 2.5].exists(limit, features.count_by_card_1h > limit && limit > 2.0)",
        ],
    )
    def test_reads_what_is_written_however_it_is_written(self, condition: str) -> None:
        rules = (make_rule(rule_id="odd", condition=condition), make_rule(rule_id="good"))

        assert hits(*rules, count_by_card_1h=3.0) == [("odd", None), ("good", None)]
        assert hits(*rules, count_by_card_1h=1.0) == [("good", None)]

    @pytest.mark.parametrize(
        "condition",
        [
            '[{"amount": 0.1}].exists(features, features.amount < 0.5)',
            "[1].exists(score, score == 1)",
            "[1].exists(_numbers, _numbers == 1 && features.amount >= 0.0)",
        ],
    )
    def test_refuses_a_name_of_the_authors_own_that_hides_a_variable(self, condition: str) -> None:
        with pytest.raises(RuleInvalidError, match="some_rule"):
            Ruleset([make_rule(condition=condition)], version=1)

    def test_reads_the_texts_and_numbers_of_the_transaction(self) -> None:
        conditions = {
            "currency": 'transaction.currency == "EUR"',
            "transaction_type": 'transaction.transaction_type == "payment"',
            "channel": 'transaction.channel == "web"',
            "ip_address": 'transaction.ip_address == "81.2.69.160"',
            "merchant_id": 'transaction.merchant_id == "merchant-1"',
            "unnamed": 'transaction.counterparty_id == "" && transaction.email == ""',
            "place": 'location.status == "found" && location.network_kind == "" && location.longitude < 14.0',
            "amount": "transaction.amount == 25.0",
        }

        found = hits(*(make_rule(rule_id=name, condition=text) for name, text in conditions.items()))

        assert [rule_id for rule_id, _ in found] == list(conditions)

    def test_without_rules_nothing_hits(self) -> None:
        assert hits() == []

    def test_does_not_take_a_text_literal_for_a_variable(self) -> None:
        assert variables_in('transaction.merchant_id == "features.amount"') == {"transaction.merchant_id"}

    @pytest.mark.parametrize(
        "condition",
        [
            "transaction.amuont > 1.0",
            'transaction.amount > "x"',
            "transaction.amount",
            "features.amount >",
            "",
        ],
    )
    def test_refuses_a_condition_that_does_not_compile_and_says_where(self, condition: str) -> None:
        with pytest.raises(RuleInvalidError, match="some_rule"):
            Ruleset([make_rule(condition=condition)], version=1)


class TestStarterRuleset:
    def test_has_ten_rules_that_compile(self) -> None:
        ruleset = starter_ruleset()

        assert len(ruleset.rules) == 10
        assert len({rule.rule_id for rule in ruleset.rules}) == 10

    def test_finds_nothing_in_a_plain_payment(self) -> None:
        assert starter_ruleset().evaluate(make_accepted(), BERLIN, make_features(amount=25.0), 0.01) == []

    @pytest.mark.parametrize(
        ("rule_id", "features"),
        [
            ("card_testing", {"count_by_device_5m": 8.0, "amount": 1.0}),
            ("card_velocity", {"count_by_card_5m": 5.0}),
            ("customer_velocity", {"count_by_customer_1h": 20.0}),
            (
                "impossible_travel",
                {"distance_km_from_last_by_customer": 5000.0, "speed_kmh_from_last_by_customer": 9000.0},
            ),
            (
                "new_device_large_amount",
                {"is_new_device_for_customer": 1.0, "days_since_first_by_customer": 9.0, "amount": 1500.0},
            ),
            ("ip_velocity", {"count_by_ip_5m": 15.0}),
            (
                "foreign_card_at_night",
                {"ip_country_differs_from_card": 1.0, "is_night": 1.0, "amount": 300.0},
            ),
        ],
    )
    def test_hits_what_each_rule_is_for(self, rule_id: str, features: dict[str, float]) -> None:
        found = starter_ruleset().evaluate(make_accepted(), BERLIN, make_features(**features), 0.01)

        assert [hit.rule.rule_id for hit in found] == [rule_id]

    @pytest.mark.parametrize(
        ("rule_id", "features"),
        [
            (
                "large_transfer_to_new_counterparty",
                {"is_new_counterparty_for_customer": 1.0, "amount": 3000.0},
            ),
            ("mule_account", {"count_by_counterparty_1h": 10.0}),
        ],
    )
    def test_hits_transfers(self, rule_id: str, features: dict[str, float]) -> None:
        accepted = make_accepted(transaction_type="transfer", counterparty_id="payee-1")

        found = starter_ruleset().evaluate(accepted, BERLIN, make_features(**features), 0.01)

        assert [hit.rule.rule_id for hit in found] == [rule_id]

    def test_sends_a_large_amount_from_an_unknown_place_to_review(self) -> None:
        nowhere = GeoLocation(status=GeoStatus.UNAVAILABLE)

        found = starter_ruleset().evaluate(make_accepted(), nowhere, make_features(amount=3000.0), 0.01)

        assert [hit.rule.rule_id for hit in found] == ["large_amount_from_unknown_place"]


class TestVariables:
    def test_every_feature_can_be_used_in_a_rule(self) -> None:
        assert {f"features.{name}" for name in FEATURE_NAMES} <= set(VARIABLES)

    def test_says_which_features_conditions_read(self) -> None:
        conditions = [
            "features.amount > 1.0 && known(features.is_web)",
            'transaction.email == "features.is_night"',
        ]

        assert features_in(conditions) == {"amount", "is_web"}
