from pathlib import Path

import pytest

from common.contracts.institutions import Institution, InstitutionMode
from tests.api.ai_service.conftest import OpenAi
from tests.fake_targets import FakeTargets


class TestVelocityAfterARestart:
    @pytest.mark.parametrize("snapshot", ["kept", "lost", "damaged"])
    async def test_counts_what_was_decided_before_once(
        self, open_ai: OpenAi, targets: FakeTargets, tmp_path: Path, snapshot: str
    ) -> None:
        path = tmp_path / "velocity.npz"
        async with open_ai() as before:
            for number in range(4):
                await before.score(transaction_id=f"tx-{number}")
        if snapshot == "lost":
            path.unlink()
        elif snapshot == "damaged":
            path.write_bytes(path.read_bytes()[:100])

        async with open_ai() as after:
            await after.score(transaction_id="next")
            await after.score(transaction_id="next")
            await after.score(transaction_id="last")

        assert '"count_by_customer_24h":4.0' in targets.records[-2]["body"]
        assert '"count_by_customer_24h":5.0' in targets.records[-1]["body"]
        assert '"observed_sequence":5' in targets.records[-2]["body"]

    async def test_a_snapshot_that_is_older_than_the_decisions_is_brought_up_to_date(
        self, open_ai: OpenAi, targets: FakeTargets, tmp_path: Path
    ) -> None:
        path = tmp_path / "velocity.npz"
        async with open_ai() as first:
            await first.score(transaction_id="tx-1")
        old = path.read_bytes()
        async with open_ai() as second:
            for number in (2, 3, 4):
                await second.score(transaction_id=f"tx-{number}")
        path.write_bytes(old)

        async with open_ai() as third:
            await third.score(transaction_id="next")

        assert '"count_by_customer_24h":4.0' in targets.records[-1]["body"]


class TestRatesAfterARestart:
    async def test_are_there_for_every_institution_that_was_seen_before(
        self, open_ai: OpenAi, targets: FakeTargets
    ) -> None:
        swiss = Institution(institution_id="ins_swiss", mode=InstitutionMode.SANDBOX, base_currency="CHF")
        targets.tables["CHF"] = [
            {
                "base_currency": "CHF",
                "as_of": "2026-01-01",
                "source": "test",
                "is_sample": False,
                "rates": {"EUR": "0.9"},
            }
        ]
        async with open_ai() as before:
            await before.score(institution=swiss)

        async with open_ai() as after:
            answer = (await after.score(institution=swiss, transaction_id="next")).json()

        assert answer["degraded"] == []


class TestSnapshotOfAnotherDatabase:
    async def test_is_refused_and_everything_is_counted_again(
        self, open_ai: OpenAi, targets: FakeTargets, tmp_path: Path
    ) -> None:
        async with open_ai() as before:
            for number in range(3):
                await before.score(transaction_id=f"tx-{number}")
        (tmp_path / "ai.db").unlink()

        async with open_ai() as after:
            await after.score(transaction_id="next")

        assert '"count_by_customer_24h":0.0' in targets.records[-1]["body"]
