"""The same scoring path with a real PostgreSQL behind it."""

import asyncio
from pathlib import Path

import pytest

from common.postgres.commits import GroupCommits
from tests.api.ai_service.conftest import OpenAi
from tests.fake_targets import FakeTargets
from tests.models import FRAUD
from tests.postgres import PostgresServer, demoted


class TestOverPostgres:
    async def test_scores_repeats_lists_and_redelivers_as_over_sqlite(
        self, open_ai: OpenAi, targets: FakeTargets, postgres_url: str
    ) -> None:
        targets.alert_status = 503
        async with open_ai(database_url=postgres_url) as before:
            scored = await asyncio.gather(
                *(before.score(transaction_id=f"tx-{number}", amount=FRAUD) for number in range(20))
            )
            again = await before.score(transaction_id="tx-3", amount=FRAUD)
            other = await before.score(transaction_id="tx-3", amount="1.00")
        targets.alert_status = 202
        async with open_ai(database_url=postgres_url) as after:
            await targets.until(alerts=20)
            page = (await after.get("/v1/transactions?limit=5&outcome=decline")).json()

        assert sorted(each.json()["decision_sequence"] for each in scored) == list(range(1, 21))
        assert again.headers["Idempotent-Replay"] == "true"
        assert again.json()["decision_id"] == scored[3].json()["decision_id"]
        assert other.status_code == 409
        assert len({each["record_id"] for each in targets.records}) == 20
        assert [item["decision"]["decision_sequence"] for item in page["items"]] == [20, 19, 18, 17, 16]

    async def test_the_velocity_state_comes_back_from_the_database(
        self, open_ai: OpenAi, targets: FakeTargets, postgres_url: str, tmp_path: Path
    ) -> None:
        async with open_ai(database_url=postgres_url) as before:
            for number in range(3):
                await before.score(transaction_id=f"tx-{number}")
        (tmp_path / "velocity.npz").unlink()
        async with open_ai(database_url=postgres_url) as after:
            await after.score(transaction_id="next")

        assert '"count_by_customer_24h":3.0' in targets.records[-1]["body"]

    async def test_a_failover_is_an_outage_that_ends_by_itself(
        self, open_ai: OpenAi, postgres_server: PostgresServer, postgres_url: str, valkey_url: str
    ) -> None:
        async with open_ai(database_url=postgres_url, valkey_url=valkey_url) as ai:

            async def asked(name: str) -> tuple[int, int]:
                scored = await ai.score(transaction_id=name)
                return scored.status_code, (await ai.client.get("/ready")).status_code

            before = await asked("before")
            with demoted(postgres_server, postgres_url):
                away = [await asked(f"away-{number}") for number in range(2)]
            back = [await asked(f"back-{number}") for number in range(2)]

        assert (before, away, back) == ((200, 200), [(503, 503)] * 2, [(200, 200)] * 2)

    async def test_is_not_ready_where_its_commits_reach_no_database(
        self, open_ai: OpenAi, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def lost(_commits: GroupCommits) -> bool:
            return False

        async with open_ai(database_url=postgres_url) as ai:
            monkeypatch.setattr(GroupCommits, "connected", lost)
            ready = await ai.client.get("/ready")

        assert ready.status_code == 503
        assert ready.json()["checks"]["database_connected"] is False
