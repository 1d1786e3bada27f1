import httpx

from bench.echo import EchoedTransaction, app
from common.contracts.transactions import Transaction
from tests.factories import transaction_body


class TestEcho:
    def test_its_model_has_the_fields_of_a_transaction_and_their_checks(self) -> None:
        echoed, real = EchoedTransaction.model_json_schema(), Transaction.model_json_schema()

        assert echoed["properties"] == real["properties"]
        assert echoed["required"] == real["required"]

    async def test_it_answers_what_was_sent(self) -> None:
        body = transaction_body()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://echo") as client:
            answer = await client.post("/v1/score", json=body)
            refused = await client.post("/v1/score", json={**body, "currency": "nonsense"})

        assert answer.status_code == 200
        assert {
            name: value for name, value in answer.json().items() if value is not None
        }.keys() == body.keys()
        assert refused.status_code == 422
