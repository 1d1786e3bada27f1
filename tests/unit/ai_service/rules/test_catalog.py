from pathlib import Path

import pytest

from ai_service.rules.catalog import RulesRefusedError, read_catalog, starter_catalog
from ai_service.rules.engine import RuleInvalidError
from common.contracts.decisions import RuleAction, RuleMode

GOOD = """
version: 4
rules:
  - rule_id: large
    action: review
    condition: features.amount > 100.0
    message: A large amount
    score_modifier: 5
    mode: shadow
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return path


class TestReadCatalog:
    def test_without_a_file_gives_the_starter_rules(self) -> None:
        assert read_catalog(None) == starter_catalog()

    def test_reads_rules_of_ones_own(self, tmp_path: Path) -> None:
        catalog = read_catalog(written(tmp_path, GOOD))

        assert catalog.version == 4
        assert [rule.rule_id for rule in catalog.rules] == ["large"]
        assert catalog.rules[0].action is RuleAction.REVIEW
        assert catalog.rules[0].mode is RuleMode.SHADOW
        assert catalog.rules[0].version == 4
        assert catalog.compiled(feature_names=("amount",)).version == 4

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("rules: [", "cannot be read"),
            ("just words", "rules.yaml"),
            ("version: 1", "rules"),
            (GOOD.replace("review", "revjew"), "rules.0.action"),
            (GOOD.replace("score_modifier: 5", "score: 5"), "rules.0.score"),
            (GOOD.replace("score_modifier: 5", "score_modifier: .nan"), "rules.0.score_modifier"),
            (GOOD.replace("rule_id: large", "rule_id: Large One"), "rules.0.rule_id"),
            (GOOD + GOOD.split("rules:")[1], "used twice"),
        ],
    )
    def test_refuses_what_are_no_rules_and_says_where(self, tmp_path: Path, text: str, told: str) -> None:
        with pytest.raises(RulesRefusedError, match=told):
            read_catalog(written(tmp_path, text))

    def test_refuses_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(RulesRefusedError, match="none"):
            read_catalog(tmp_path / "none.yaml")

    def test_a_wrong_condition_is_refused_when_it_is_compiled(self, tmp_path: Path) -> None:
        catalog = read_catalog(written(tmp_path, GOOD.replace("features.amount", "features.amuont")))

        with pytest.raises(RuleInvalidError, match="large"):
            catalog.compiled()
