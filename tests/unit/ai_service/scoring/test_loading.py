from pathlib import Path

import pytest

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.scoring.loading import load_scoring
from common.errors import StartupError
from tests.models import save_test_model

LEAN = ("amount", "is_night", "count_by_card_1h")
RULES = """
version: 3
rules:
  - {rule_id: many, action: review, message: Many, condition: features.count_by_device_5m > 3.0}
"""


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


class TestLoadScoring:
    def test_plans_what_the_model_and_the_rules_need_in_the_order_of_the_catalogue(
        self, tmp_path: Path, rules_file: Path
    ) -> None:
        save_test_model(tmp_path, features=LEAN)

        scoring = load_scoring(tmp_path, rules_file)

        wanted = {*LEAN, "count_by_device_5m"}
        assert scoring.features.names == tuple(name for name in FEATURE_NAMES if name in wanted)
        assert scoring.model.feature_names == scoring.features.names
        assert scoring.rules.version == 3

    def test_without_a_model_says_how_to_train_one(self, tmp_path: Path) -> None:
        with pytest.raises(StartupError, match="make model"):
            load_scoring(tmp_path, None)

    def test_refuses_a_model_of_features_that_do_not_exist(self, tmp_path: Path) -> None:
        save_test_model(tmp_path, features=("amount", "moon_phase"))

        with pytest.raises(StartupError, match="moon_phase"):
            load_scoring(tmp_path, None)

    @pytest.mark.parametrize("condition", ["features.moon_phase > 1.0", "features.amount >"])
    def test_refuses_rules_that_do_not_compile_and_names_the_rule(
        self, tmp_path: Path, rules_file: Path, condition: str
    ) -> None:
        save_test_model(tmp_path)
        rules_file.write_text(RULES.replace("features.count_by_device_5m > 3.0", condition))

        with pytest.raises(StartupError, match="many"):
            load_scoring(tmp_path, rules_file)
