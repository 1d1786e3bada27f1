"""What ai_service tells alert_service about a flagged decision, and what alert_service shows of it."""

from decimal import Decimal

from pydantic import Field

from common.contracts.decisions import Outcome, Reason, RiskLevel
from common.contracts.fields import Contract, Identifier, Timestamp
from common.contracts.institutions import Institution

MAX_ALERTS = 256


class AlertRequest(Contract):
    """One flagged decision. `alert_id` is stable, so a repeated delivery is recognised."""

    alert_id: Identifier
    institution: Institution
    decision_id: Identifier
    decision_sequence: int
    transaction_id: Identifier
    customer_id: Identifier
    request_id: str
    outcome: Outcome
    policy_outcome: Outcome
    risk_score: int
    risk_level: RiskLevel
    fraud_probability: float
    amount: Decimal
    currency: str
    transaction_type: str
    country: str | None
    reasons: tuple[Reason, ...]
    event_time: Timestamp
    decided_at: Timestamp


class AlertBatch(Contract):
    """Alerts that are raised together."""

    alerts: tuple[AlertRequest, ...] = Field(min_length=1, max_length=MAX_ALERTS)


class AlertsAccepted(Contract):
    """How many alerts of a batch were new and how many had been accepted before; all of them are durable."""

    accepted: int
    repeated: int
