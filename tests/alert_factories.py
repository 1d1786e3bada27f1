"""Builds alerts for tests."""

from typing import Any

from common.contracts.alerts import AlertRequest


def alert_body(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a declined payment's alert as JSON, with `changes`."""
    return {
        "alert_id": "alr_1",
        "institution": {"institution_id": "ins_test", "mode": "sandbox", "base_currency": "EUR"},
        "decision_id": "dec_1",
        "decision_sequence": 1,
        "transaction_id": "tx-1",
        "customer_id": "customer-1",
        "request_id": "req-1",
        "outcome": "decline",
        "policy_outcome": "decline",
        "risk_score": 92,
        "risk_level": "high",
        "fraud_probability": 0.917,
        "amount": "249.90",
        "currency": "EUR",
        "transaction_type": "payment",
        "country": "DE",
        "reasons": [
            {
                "code": "CARD_TESTING",
                "message": "Many small payments",
                "contribution": 40.0,
                "source": "rule",
            },
            {"code": "AMOUNT", "message": "The amount: 249.90", "contribution": 1.5, "source": "model"},
        ],
        "event_time": "2026-11-02T14:03:22+01:00",
        "decided_at": "2026-11-02T13:03:22.310+00:00",
        **changes,
    }


def make_alert(**changes: Any) -> AlertRequest:  # noqa: ANN401 - any JSON
    """Return a declined payment's alert with `changes`."""
    return AlertRequest.model_validate(alert_body(**changes))
