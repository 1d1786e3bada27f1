import pytest

from ai_service.only_process import AlreadyRunningError
from tests.api.ai_service.conftest import API_KEYS, Ai, OpenAi
from tests.factories import LIVE
from tests.models import FINE, FRAUD, save_test_model


class TestDecision:
    async def test_is_what_was_answered(self, ai: Ai) -> None:
        answer = (await ai.score(amount=FRAUD)).json()

        found = await ai.get(f"/v1/decisions/{answer['decision_id']}")

        assert found.json() == answer

    async def test_of_another_institution_does_not_exist(self, ai: Ai) -> None:
        answer = (await ai.score()).json()

        found = await ai.get(f"/v1/decisions/{answer['decision_id']}", institution=LIVE)

        assert found.status_code == 404
        assert answer["decision_id"] not in found.text

    async def test_is_read_with_an_api_key_of_its_institution_alone(self, ai: Ai) -> None:
        own = (await ai.score()).json()["decision_id"]
        other = (await ai.score(institution=LIVE)).json()["decision_id"]
        key = {"X-API-Key": API_KEYS["reading_key"]}

        found, hidden = [await ai.client.get(f"/v1/decisions/{each}", headers=key) for each in (own, other)]

        assert (found.status_code, hidden.status_code) == (200, 404)

    async def test_is_explained_on_request(self, ai: Ai) -> None:
        answer = (await ai.score(amount="90.00")).json()

        found = (await ai.get(f"/v1/decisions/{answer['decision_id']}?explain=true")).json()

        assert answer["signals"] is None
        assert set(found["signals"]) >= {"amount", "velocity"}
        assert {**found, "signals": None, "reasons": []} == {**answer, "reasons": []}

    async def test_explaining_needs_the_model_that_scored(
        self, open_ai: OpenAi, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = tmp_path_factory.mktemp("other-models")
        save_test_model(other, version="2")
        async with open_ai() as ai:
            decision_id = (await ai.score(amount=FINE)).json()["decision_id"]
        async with open_ai(models_dir=other) as ai:
            found = await ai.get(f"/v1/decisions/{decision_id}?explain=true")

        assert found.status_code == 409
        assert found.json()["type"] == "urn:assay:problem:model-gone"


class TestTransactions:
    async def test_come_newest_first_in_pages_without_gap_or_repeat(self, ai: Ai) -> None:
        for number in range(7):
            await ai.score(transaction_id=f"tx-{number}")
        seen: list[str] = []
        path = "/v1/transactions?limit=3"

        while True:
            page = (await ai.get(path)).json()
            seen += [item["decision"]["transaction_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            path = f"/v1/transactions?limit=3&cursor={page['next_cursor']}"

        assert seen == [f"tx-{number}" for number in reversed(range(7))]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("outcome=decline", ["bad"]),
            ("policy_outcome=approve", ["good"]),
            ("risk_level=high", ["bad"]),
            ("customer_id=customer-2", ["bad"]),
            ("transaction_id=good", ["good"]),
            ("since=2020-01-01T00:00:00Z", ["bad", "good"]),
            ("until=2020-01-01T00:00:00Z", []),
            ("outcome=decline&customer_id=customer-1", []),
        ],
    )
    async def test_can_be_filtered(self, ai: Ai, query: str, expected: list[str]) -> None:
        await ai.score(transaction_id="good", amount=FINE)
        await ai.score(transaction_id="bad", amount=FRAUD, customer_id="customer-2")

        page = (await ai.get(f"/v1/transactions?{query}")).json()

        assert [item["transaction"]["transaction_id"] for item in page["items"]] == expected

    async def test_of_another_institution_are_not_there(self, ai: Ai) -> None:
        await ai.score()

        assert (await ai.get("/v1/transactions", institution=LIVE)).json()["items"] == []

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=201",
            "limit=x",
            "cursor=%00",
            "cursor=bm8",
            "cursor=LTE",
            "outcome=maybe",
            "since=2026-01-01T00:00:00",
            "since=0",
            "since=1767225600",
            "until=1767225600000",
            "until=1767225600.5",
        ],
    )
    async def test_refuses_odd_queries(self, ai: Ai, query: str) -> None:
        response = await ai.get(f"/v1/transactions?{query}")

        assert response.status_code == 422


class TestOperations:
    async def test_ready_names_each_check(self, ai: Ai) -> None:
        ready = (await ai.client.get("/ready")).json()

        assert ready["ready"] is True
        assert {"model_loaded", "database_connected", "keys_loaded"} <= set(ready["checks"])

    async def test_metrics_and_docs_are_there(self, ai: Ai) -> None:
        await ai.score()

        metrics = (await ai.client.get("/metrics")).text
        assert 'assay_http_requests_total{method="POST",route="/v1/score",status="200"}' in metrics
        assert (await ai.client.get("/docs")).status_code == 200

    async def test_a_second_process_on_the_same_state_is_refused(self, open_ai: OpenAi) -> None:
        async with open_ai():
            with pytest.raises(AlreadyRunningError, match="velocity"):
                async with open_ai():
                    pass
