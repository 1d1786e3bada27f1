import numpy as np
import pytest

from ai_service.features.definitions import FAMILIES, FEATURE_NAMES, FEATURES
from ai_service.scoring.explanation import model_reasons, rule_reasons, signals
from common.contracts.decisions import ReasonSource, RuleMode
from tests.factories import make_features, make_rule_hit


class TestRuleReasons:
    def test_tells_the_strongest_counting_rule_first(self) -> None:
        hits = [
            make_rule_hit(rule_id="weak", score_modifier=5),
            make_rule_hit(rule_id="strong", score_modifier=-30),
            make_rule_hit(rule_id="silent", mode=RuleMode.SHADOW),
        ]

        reasons = rule_reasons(hits)

        assert [reason.code for reason in reasons] == ["STRONG", "WEAK"]
        assert reasons[0].contribution == -30
        assert reasons[0].source is ReasonSource.RULE


class TestModelReasons:
    def test_adds_up_features_that_share_a_code_and_names_the_strongest(self) -> None:
        features = make_features(count_by_card_5m=7.0, count_by_card_1h=9.0)
        contributions = make_features(count_by_card_5m=0.5, count_by_card_1h=0.25)

        reasons = model_reasons(features, contributions)

        assert reasons[0].code == "CARD_VELOCITY"
        assert reasons[0].contribution == 0.75
        assert reasons[0].message == "Transactions of this card in the last 5 minutes: 7"

    def test_tells_only_what_raised_the_score_and_at_most_five(self) -> None:
        contributions = np.linspace(-1, 1, len(FEATURES))

        reasons = model_reasons(make_features(), contributions)

        assert len(reasons) == 5
        assert all(reason.contribution > 0 for reason in reasons)
        assert not model_reasons(make_features(), -np.ones(len(FEATURES)))

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("is_night", 1.0, "yes"),
            ("is_night", 0.0, "no"),
            ("amount", 1234.5, "1,234.50"),
            ("amount", float("nan"), "unknown"),
            ("ip_country_differs_from_card", 1.0, "yes"),
        ],
    )
    def test_says_values_as_people_read_them(self, name: str, value: float, said: str) -> None:
        reasons = model_reasons(make_features(**{name: value}), make_features(**{name: 1.0}))

        assert reasons[0].message.endswith(f": {said}")

    def test_of_a_part_of_the_features(self) -> None:
        names = ("amount", "count_by_card_5m", "is_night")

        reasons = model_reasons(np.array([12.5, 7.0, 1.0]), np.array([0.25, 0.5, -1.0]), names)

        assert [reason.message for reason in reasons] == [
            "Transactions of this card in the last 5 minutes: 7",
            "The amount: 12.50",
        ]
        assert signals(np.array([0.25, 0.5, -1.0]), names)["time"] == -1.0


class TestSignals:
    def test_sum_to_the_contributions(self) -> None:
        contributions = np.arange(len(FEATURES), dtype=np.float64)

        found = signals(contributions)

        assert set(found) == set(FAMILIES)
        assert sum(found.values()) == contributions.sum()


class TestFeatures:
    def test_have_unique_names_and_known_families(self) -> None:
        assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
        assert {feature.family for feature in FEATURES} == set(FAMILIES)
