from pathlib import Path

import pytest

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.rules.catalog import read_catalog
from bench.models import lean_features
from bench.rulesets import generated_rules, write_rules
from bench.stream import MARKED
from common.contracts.geoip import GeoLocation, GeoStatus
from tests.factories import make_accepted, make_features

LOCATION = GeoLocation(status=GeoStatus.FOUND, country="DE")


class TestGeneratedRules:
    @pytest.mark.parametrize("count", [10, 100])
    def test_there_are_as_many_as_asked_for_and_ai_service_reads_them(
        self, tmp_path: Path, count: int
    ) -> None:
        path = write_rules(tmp_path / "rules.yaml", generated_rules(count, FEATURE_NAMES))

        assert len(read_catalog(path).compiled().rules) == count

    def test_only_marked_payments_hit_and_no_rule_fails(self, tmp_path: Path) -> None:
        path = write_rules(tmp_path / "rules.yaml", generated_rules(100, FEATURE_NAMES))
        rules = read_catalog(path).compiled()
        features = make_features(amount=25.0)

        plain = rules.evaluate(make_accepted(), LOCATION, features, 0.1)
        marked = rules.evaluate(make_accepted(merchant_category=MARKED), LOCATION, features, 0.1)

        assert plain == []
        assert [(hit.rule.rule_id, hit.error) for hit in marked] == [("bench_marked", None)]

    def test_lean_rules_need_lean_features_alone(self, tmp_path: Path) -> None:
        names = lean_features()
        path = write_rules(tmp_path / "rules.yaml", generated_rules(10, names))

        assert len(read_catalog(path).compiled(feature_names=names).rules) == 10
        assert 20 <= len(names) <= 30
