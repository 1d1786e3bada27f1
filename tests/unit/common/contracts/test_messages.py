"""What every message between services has in common."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from common.contracts.alerts import MAX_ALERTS, AlertBatch, AlertRequest
from common.contracts.audit_records import MAX_RECORDS, AuditBatch, AuditRecord
from common.contracts.geoip import GeoLocation
from common.contracts.rates import RateTable

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
ALERT: dict[str, Any] = {
    "alert_id": "alr_1",
    "institution": {"institution_id": "ins_1", "mode": "live", "base_currency": "EUR"},
    "decision_id": "dec_1",
    "decision_sequence": 1,
    "transaction_id": "tx-1",
    "customer_id": "customer-1",
    "request_id": "req-1",
    "outcome": "decline",
    "policy_outcome": "decline",
    "risk_score": 90,
    "risk_level": "high",
    "fraud_probability": 0.9,
    "amount": "10.00",
    "currency": "EUR",
    "transaction_type": "payment",
    "country": None,
    "reasons": [{"code": "A_1", "message": "m", "contribution": 1.0, "source": "rule"}],
    "event_time": NOW.isoformat(),
    "decided_at": NOW.isoformat(),
}
RECORD: dict[str, Any] = {
    "record_id": "dec_1",
    "kind": "decision",
    "institution_id": "ins_1",
    "institution_mode": "live",
    "sequence": 1,
    "created_at": NOW.isoformat(),
    "request_id": "req-1",
    "sha256": "0" * 64,
    "body": "{}",
}
RATES: dict[str, Any] = {
    "base_currency": "EUR", "as_of": "2026-11-01", "source": "s", "is_sample": True, "rates": {"USD": "0.9"},
}  # fmt: skip
MESSAGES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (AlertRequest, ALERT), (AuditRecord, RECORD), (RateTable, RATES),
]  # fmt: skip


@pytest.mark.parametrize(("message", "body"), MESSAGES)
class TestMessages:
    def test_come_back_as_they_were_sent(self, message: type[BaseModel], body: dict[str, Any]) -> None:
        made = message.model_validate(body)

        assert message.model_validate_json(made.model_dump_json()) == made

    def test_refuse_unknown_fields(self, message: type[BaseModel], body: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            message.model_validate({**body, "is_admin": True})

    def test_do_not_change(self, message: type[BaseModel], body: dict[str, Any]) -> None:
        made = message.model_validate(body)

        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, next(iter(body)), "x")

    def test_do_not_show_values_in_their_errors(self, message: type[BaseModel], body: dict[str, Any]) -> None:
        for name in body:
            with pytest.raises(ValidationError) as caught:
                message.model_validate({**body, name: {"canary": "canary"}})

            assert "canary'" not in str(caught.value)


class TestLimits:
    @pytest.mark.parametrize("count", [0, MAX_ALERTS + 1])
    def test_of_a_batch_of_alerts(self, count: int) -> None:
        with pytest.raises(ValidationError):
            AlertBatch.model_validate({"alerts": [ALERT] * count})

    @pytest.mark.parametrize("count", [0, MAX_RECORDS + 1])
    def test_of_a_batch_of_records(self, count: int) -> None:
        with pytest.raises(ValidationError):
            AuditBatch.model_validate({"records": [RECORD] * count})

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
    def test_numbers_are_numbers(self, number: str) -> None:
        text = AlertRequest.model_validate(ALERT).model_dump_json().replace("0.9", number)

        with pytest.raises(ValidationError):
            AlertRequest.model_validate_json(text)

    @pytest.mark.parametrize(
        "changes", [{"latitude": 91}, {"longitude": float("nan")}, {"asn": -1}, {"asn": 2**32}]
    )
    def test_a_location_is_on_earth(self, changes: dict[str, float]) -> None:
        with pytest.raises(ValidationError):
            GeoLocation.model_validate({"status": "found", **changes})

    @pytest.mark.parametrize("time", ["2026-11-02T12:00:00", "2026-11-02", "noon"])
    def test_times_have_an_offset(self, time: str) -> None:
        with pytest.raises(ValidationError):
            AuditRecord.model_validate({**RECORD, "created_at": time})
