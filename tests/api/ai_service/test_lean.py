from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.api.ai_service.conftest import OpenAi
from tests.fake_targets import FakeTargets
from tests.models import FINE, FRAUD, save_test_model

LEAN = ("amount", "is_night", "count_by_card_1h")
RULES = """
version: 3
rules:
  - rule_id: many_from_one_device
    action: review
    message: Many from one device
    condition: features.count_by_device_5m >= 2.0
"""


@pytest.fixture
def lean(tmp_path: Path) -> dict[str, Path]:
    """Settings for a model of three features, and rules that read a fourth."""
    rules_file = tmp_path / "rules.yaml"
    rules_file.write_text(RULES)
    save_test_model(tmp_path / "models", features=LEAN)
    return {"models_dir": tmp_path / "models", "rules_file": rules_file}


def features_of(record: dict[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = orjson.loads(record["body"])["features"]
    return found


class TestLean:
    async def test_computes_and_saves_what_the_model_and_the_rules_need(
        self, open_ai: OpenAi, targets: FakeTargets, lean: dict[str, Path]
    ) -> None:
        async with open_ai(**lean) as ai:
            answers = [
                (await ai.score(transaction_id=f"tx-{number}", amount=FINE)).json() for number in range(3)
            ]

        assert set(features_of(targets.records[-1])) == {*LEAN, "count_by_device_5m"}
        assert features_of(targets.records[-1])["count_by_device_5m"] == 2.0
        assert [hit["rule_id"] for hit in answers[-1]["rule_hits"]] == ["many_from_one_device"]
        assert answers[0]["rule_hits"] == []
        assert answers[-1]["ruleset_version"] == 3

    async def test_explains_with_the_features_it_has(self, open_ai: OpenAi, lean: dict[str, Path]) -> None:
        async with open_ai(**lean) as ai:
            flagged = (await ai.score(transaction_id="tx-1", amount=FRAUD)).json()
            calm = (await ai.score(transaction_id="tx-2", amount="90.00")).json()
            explained = (await ai.get(f"/v1/decisions/{calm['decision_id']}?explain=true")).json()

        assert flagged["reasons"][0]["code"] == "AMOUNT"
        assert explained["signals"]["amount"] != 0.0

    async def test_explains_what_the_same_model_decided_with_other_rules(
        self, open_ai: OpenAi, lean: dict[str, Path]
    ) -> None:
        async with open_ai(models_dir=lean["models_dir"]) as ai:
            before = (await ai.score(transaction_id="tx-1", amount="90.00")).json()
        async with open_ai(**lean) as ai:
            explained = (await ai.get(f"/v1/decisions/{before['decision_id']}?explain=true")).json()

        assert explained["signals"]["amount"] != 0.0
