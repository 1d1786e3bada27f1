import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from common.canonical import sha256_hex
from common.contracts.decisions import ScoredTransaction
from tests.api.ai_service.conftest import Ai, OpenAi
from tests.factories import LIVE
from tests.fake_targets import FakeTargets
from tests.models import DOUBTFUL, FINE, FRAUD
from tests.waiting import eventually


class TestScore:
    async def test_answers_in_the_words_of_the_contract(self, ai: Ai) -> None:
        response = await ai.score(amount=FINE)

        answer = response.json()
        assert response.status_code == 200
        assert set(answer) == set(ScoredTransaction.model_fields)
        assert answer["outcome"] == answer["policy_outcome"] == "approve"
        assert answer["mode"] == "enforce"
        assert answer["risk_level"] == "low"
        assert answer["decision_sequence"] == 1
        assert answer["enrichment"]["geo"]["country"] == "DE"
        assert answer["deliveries"] == {"alert": "not_needed", "audit": "delivered"}
        assert answer["signals"] is None
        assert answer["degraded"] == []
        assert answer["review_id"] is None
        assert 0 <= answer["confidence"] <= 1
        assert set(answer["timings_ms"]) == {"enrich", "wait", "score", "explain"}

    @pytest.mark.parametrize(
        ("amount", "outcome", "level"), [(DOUBTFUL, "challenge", "medium"), (FRAUD, "decline", "high")]
    )
    async def test_flags_what_is_not_approved_and_says_why(
        self, ai: Ai, targets: FakeTargets, amount: str, outcome: str, level: str
    ) -> None:
        answer = (await ai.score(amount=amount)).json()

        assert answer["outcome"] == outcome
        assert answer["risk_level"] == level
        assert answer["deliveries"] == {"alert": "delivered", "audit": "delivered"}
        assert answer["reasons"][0]["code"] == "AMOUNT"
        assert answer["reasons"][0]["source"] == "model"
        assert set(answer["signals"]) == {"velocity", "amount", "device", "location", "counterparty", "time"}
        assert targets.alerts[0]["decision_id"] == answer["decision_id"]
        assert targets.alerts[0]["alert_id"].startswith("alr_")

    async def test_a_rule_decides_together_with_the_model(self, ai: Ai) -> None:
        answer = (
            await ai.score(
                amount="99.00", transaction_type="transfer", counterparty_id="payee", ip_address="10.0.0.1"
            )
        ).json()
        assert answer["rule_hits"] == []

        answers = [
            (await ai.score(transaction_id=f"card-{number}", amount="5.00")).json() for number in range(9)
        ]

        assert [hit["rule_id"] for hit in answers[-1]["rule_hits"]] == ["card_testing", "card_velocity"]
        assert answers[-1]["outcome"] == "decline"

    async def test_a_live_institution_starts_in_observe(self, ai: Ai) -> None:
        answer = (await ai.score(amount=FRAUD, institution=LIVE)).json()

        assert answer["mode"] == "observe"
        assert answer["outcome"] == "approve"
        assert answer["policy_outcome"] == "decline"
        assert answer["deliveries"]["alert"] == "delivered"

    async def test_the_archived_record_is_the_canonical_bytes_that_were_saved(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        answer = (await ai.score(amount=FRAUD)).json()

        record = targets.records[0]
        body = json.loads(record["body"])
        assert record["record_id"] == answer["decision_id"]
        assert record["sha256"] == sha256_hex(record["body"].encode())
        assert body["decision"]["decision_sequence"] == record["sequence"] == 1
        assert body["transaction"]["amount"] == FRAUD
        assert body["features"]["amount"] == 900.0
        assert "deliveries" not in body["decision"]

    async def test_sequences_have_no_gaps_and_belong_to_one_institution(self, ai: Ai) -> None:
        scored = await asyncio.gather(*(ai.score(transaction_id=f"tx-{number}") for number in range(40)))
        other = await ai.score(institution=LIVE)

        assert sorted(response.json()["decision_sequence"] for response in scored) == list(range(1, 41))
        assert other.json()["decision_sequence"] == 1

    async def test_the_request_id_travels_with_the_transaction(self, ai: Ai, targets: FakeTargets) -> None:
        await ai.score(amount=FRAUD, headers={"X-Request-ID": "trace-me-1"})

        assert targets.request_ids == ["trace-me-1"]
        assert targets.alerts[0]["request_id"] == targets.records[0]["request_id"] == "trace-me-1"

    async def test_a_card_number_as_request_id_goes_nowhere(
        self, ai: Ai, targets: FakeTargets, capsys: pytest.CaptureFixture[str]
    ) -> None:
        number = "4111111111111111"

        answer = await ai.score(amount=FRAUD, headers={"X-Request-ID": number})

        chosen = answer.headers["X-Request-ID"]
        assert chosen != number
        assert targets.request_ids == [chosen]
        assert targets.alerts[0]["request_id"] == targets.records[0]["request_id"] == chosen
        assert number not in capsys.readouterr().out

    async def test_calls_between_services_carry_service_tokens(self, ai: Ai, targets: FakeTargets) -> None:
        await ai.score(amount=FRAUD)

        assert len(targets.tokens) == 2
        assert all(token.startswith("Bearer ey") for token in targets.tokens)
        assert not any(token == ai.auth()["Authorization"] for token in targets.tokens)


class TestIdempotency:
    async def test_a_repeat_gets_the_saved_decision_and_is_counted_once(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        first = await ai.score(amount="25.00")
        again = await ai.score(amount="25.0")
        other = await ai.score(transaction_id="tx-2")

        assert "Idempotent-Replay" not in first.headers
        assert again.headers["Idempotent-Replay"] == "true"
        assert again.json() == first.json()
        assert len(targets.records) == 2
        assert json.loads(targets.records[1]["body"])["features"]["count_by_customer_24h"] == 1.0
        assert other.json()["decision_sequence"] == 2

    async def test_the_same_id_with_another_body_is_refused(self, ai: Ai) -> None:
        await ai.score(amount="25.00")

        response = await ai.score(amount="26.00")

        assert response.status_code == 409
        assert response.json()["type"] == "urn:assay:problem:transaction-id-reused"

    async def test_concurrent_repeats_are_one_decision(self, ai: Ai, targets: FakeTargets) -> None:
        responses = await asyncio.gather(*(ai.score(amount=FRAUD) for _ in range(25)))

        assert {response.status_code for response in responses} == {200}
        assert len({response.json()["decision_id"] for response in responses}) == 1
        assert sum("Idempotent-Replay" in response.headers for response in responses) == 24
        assert len(targets.records) == len(targets.alerts) == 1

    async def test_the_same_id_belongs_to_each_institution_separately(self, ai: Ai) -> None:
        first = await ai.score(amount="25.00")
        second = await ai.score(amount="26.00", institution=LIVE)

        assert first.json()["decision_id"] != second.json()["decision_id"]

    async def test_a_repeat_after_a_restart_gets_the_saved_decision(self, open_ai: OpenAi) -> None:
        async with open_ai() as before:
            first = await before.score(amount=FRAUD)
        async with open_ai() as after:
            again = await after.score(amount=FRAUD)

        assert again.headers["Idempotent-Replay"] == "true"
        assert again.json() == first.json()


class TestParallelDelivery:
    async def test_alert_and_log_are_told_at_the_same_time(self, ai: Ai, targets: FakeTargets) -> None:
        targets.meet = asyncio.Barrier(2)  # each delivery waits until the other has arrived too

        answer = (await ai.score(amount=FRAUD)).json()

        assert answer["deliveries"] == {"alert": "delivered", "audit": "delivered"}


class TestRedelivery:
    async def test_what_could_not_be_told_is_pending_and_told_later(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        targets.alert_status = targets.audit_status = 503
        first = (await ai.score(amount=FRAUD)).json()

        targets.alert_status = targets.audit_status = 202
        await targets.until(alerts=1, records=1)

        assert first["deliveries"] == {"alert": "pending", "audit": "pending"}
        await eventually(lambda: self._is_delivered(ai, first["decision_id"]))
        assert (await ai.score(amount=FRAUD)).json()["deliveries"]["alert"] == "delivered"

    async def _is_delivered(self, ai: Ai, decision_id: str) -> bool:
        deliveries = (await ai.get(f"/v1/decisions/{decision_id}")).json()["deliveries"]
        return bool(deliveries == {"alert": "delivered", "audit": "delivered"})

    async def test_one_target_that_is_away_does_not_hold_up_the_other(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        targets.alert_status = 500

        answer = (await ai.score(amount=FRAUD)).json()

        assert answer["deliveries"] == {"alert": "pending", "audit": "delivered"}

    async def test_what_was_pending_is_told_after_a_restart(
        self, open_ai: OpenAi, targets: FakeTargets
    ) -> None:
        targets.alert_status = targets.audit_status = 503
        async with open_ai() as before:
            for number in range(5):
                await before.score(transaction_id=f"tx-{number}", amount=FRAUD)
        targets.alert_status = targets.audit_status = 202

        async with open_ai():
            await targets.until(alerts=5, records=5)

        assert len({record["record_id"] for record in targets.records}) == 5


class TestRowsThatCannotBeTold:
    async def test_do_not_hold_up_the_others(
        self, open_ai: OpenAi, targets: FakeTargets, tmp_path: Path
    ) -> None:
        targets.alert_status = 503
        async with open_ai() as before:
            for number in range(4):
                await before.score(transaction_id=f"tx-{number}", amount=FRAUD)
        with closing(sqlite3.connect(tmp_path / "ai.db")) as database, database:
            database.execute("UPDATE decisions SET record = '{}' WHERE transaction_id = 'tx-0'")
            database.execute("DELETE FROM decisions WHERE transaction_id = 'tx-1'")
        targets.alert_status = 202

        async with open_ai():
            await targets.until(alerts=2)

        assert {each["transaction_id"] for each in targets.alerts} == {"tx-2", "tx-3"}
        with closing(sqlite3.connect(tmp_path / "ai.db")) as database:
            kept = database.execute("SELECT count(*) FROM outbox WHERE target = 'alert'").fetchone()
        assert kept[0] >= 2  # what cannot be told stays, and is seen by whoever looks


class TestDegrading:
    async def test_without_geoip_the_decision_says_so(self, ai: Ai, targets: FakeTargets) -> None:
        targets.geoip_status = 503

        answer = (await ai.score(amount=FINE)).json()

        assert answer["degraded"] == ["geoip"]
        assert answer["enrichment"]["geo"]["status"] == "unavailable"
        assert answer["enrichment"]["geo"]["country"] is None

    async def test_a_slow_geoip_is_left_behind_at_its_deadline(
        self, open_ai: OpenAi, targets: FakeTargets
    ) -> None:
        targets.geoip_gate = asyncio.Event()
        async with open_ai(geoip_timeout_ms=20) as ai:
            answer = (await ai.score(amount=FINE)).json()
        targets.geoip_gate.set()

        assert answer["degraded"] == ["geoip"]

    async def test_a_garbled_location_is_no_location(self, ai: Ai, targets: FakeTargets) -> None:
        targets.geo = {"status": "found", "country": "DE", "latitude": 4000}

        assert (await ai.score(amount=FINE)).json()["degraded"] == ["geoip"]

    async def test_one_look_up_per_address_however_many_ask(self, ai: Ai, targets: FakeTargets) -> None:
        await asyncio.gather(*(ai.score(transaction_id=f"tx-{number}") for number in range(20)))
        await ai.score(transaction_id="later")

        assert targets.geoip_asked == ["81.2.69.160"]

    async def test_a_currency_without_a_rate_degrades_visibly(self, ai: Ai, targets: FakeTargets) -> None:
        answer = (await ai.score(currency="CHF")).json()

        assert answer["degraded"] == ["fx"]
        assert json.loads(targets.records[0]["body"])["features"]["amount"] is None

    async def test_a_known_rate_is_used(self, open_ai: OpenAi, targets: FakeTargets) -> None:
        table = {
            "base_currency": "EUR",
            "as_of": "2026-01-01",
            "source": "test",
            "is_sample": False,
            "rates": {"CHF": "1.1"},
        }
        targets.tables["EUR"] = [table]
        async with open_ai() as ai:
            answer = (await ai.score(currency="CHF", amount="10.00")).json()

        assert answer["degraded"] == []
        assert json.loads(targets.records[0]["body"])["features"]["amount"] == 11.0


class TestRefusals:
    @pytest.mark.parametrize("deadline", ["0", "-1", "1.5", "abc", "٥", "9999999"])
    async def test_an_odd_deadline(self, ai: Ai, deadline: str) -> None:
        response = await ai.score(headers={"X-Deadline-Ms": deadline.encode()})  # type: ignore[dict-item]

        assert response.status_code == 422
        assert response.json()["type"] == "urn:assay:problem:deadline-invalid"

    async def test_past_its_deadline_a_request_is_refused_and_can_be_repeated(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        targets.geoip_gate = asyncio.Event()
        late = await ai.score(headers={"X-Deadline-Ms": "30"})
        targets.geoip_gate.set()
        again = await ai.score()

        assert late.status_code == 503
        assert late.json()["type"] == "urn:assay:problem:deadline-exceeded"
        assert late.headers["Retry-After"] == "1"
        assert again.status_code == 200

    async def test_one_who_waits_for_the_same_transaction_has_a_deadline_of_its_own(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        targets.geoip_gate = asyncio.Event()
        first = asyncio.create_task(ai.score(headers={"X-Deadline-Ms": "50"}))
        await eventually(lambda: self._asked(targets))
        patient = asyncio.create_task(ai.score())
        late = await first
        targets.geoip_gate.set()

        answer = await patient

        assert late.status_code == 503
        assert answer.status_code == 200
        assert answer.headers["Idempotent-Replay"] == "true"

    async def _asked(self, targets: FakeTargets) -> bool:
        return bool(targets.geoip_asked)

    async def test_more_than_may_wait_is_refused_and_counted_nowhere(
        self, open_ai: OpenAi, targets: FakeTargets
    ) -> None:
        async with open_ai(max_waiting=3) as ai:
            scored = await asyncio.gather(*(ai.score(transaction_id=f"tx-{number}") for number in range(12)))
            refused = [each for each in scored if each.status_code == 503]
            last = await ai.score(transaction_id="last")

        assert refused
        assert {each.json()["type"] for each in refused} == {"urn:assay:problem:overloaded"}
        assert all(int(each.headers["Retry-After"]) > 0 for each in refused)
        record = next(each for each in targets.records if each["record_id"] == last.json()["decision_id"])
        assert f'"count_by_customer_24h":{12.0 - len(refused)}' in record["body"]

    async def test_an_event_in_the_future(self, ai: Ai) -> None:
        response = await ai.score(event_time="2998-01-01T00:00:00Z")

        assert response.status_code == 422
        assert response.json()["type"] == "urn:assay:problem:event-time-ahead"

    async def test_wrong_fields_are_named_and_their_values_are_not(self, ai: Ai) -> None:
        response = await ai.score(amount="CANARY-1", currency="CANARY-2", CANARY_FIELD="CANARY-3")

        problem = response.json()
        assert response.status_code == 422
        assert response.headers["Content-Type"] == "application/problem+json"
        assert {error["field"] for error in problem["errors"]} == {
            "body.amount",
            "body.currency",
            "body.?",
        }
        assert "CANARY" not in response.text

    async def test_keys_that_the_caller_chose_are_not_repeated(self, ai: Ai) -> None:
        response = await ai.score(metadata={"canary_key": None, "CANARY KEY": 1})

        assert {error["field"] for error in response.json()["errors"]} <= {
            "body.metadata.?",
            "body.metadata.?.?",
        }
        assert "canary" not in response.text.lower()

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}])
    async def test_a_caller_without_a_token(self, ai: Ai, headers: dict[str, str]) -> None:
        response = await ai.client.post("/v1/score", json={}, headers=headers)

        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"

    async def test_a_service_token_does_not_score(self, ai: Ai) -> None:
        token = ai.users.fake.service_token()

        response = await ai.client.post("/v1/score", json={}, headers={"Authorization": f"Bearer {token}"})

        assert response.status_code == 403
