"""What ai_service answers about a transaction."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from common.contracts.fields import Contract, Timestamp
from common.contracts.geoip import GeoStatus, NetworkKind

DECISION_SCHEMA_VERSION = 1


class Outcome(StrEnum):
    """What the caller should do, from least to most strict."""

    APPROVE = "approve"
    CHALLENGE = "challenge"
    REVIEW = "review"
    DECLINE = "decline"


class RiskLevel(StrEnum):
    """The band the risk score falls into."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class EnforcementMode(StrEnum):
    """Whether `outcome` follows the policy (`enforce`) or is always approve (`observe`)."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


class ReasonSource(StrEnum):
    """What gave a reason."""

    RULE = "rule"
    MODEL = "model"
    LIST = "list"


class RuleAction(StrEnum):
    """What a rule asks for when it hits; `block` leads to the outcome decline."""

    ALLOW = "allow"
    CHALLENGE = "challenge"
    REVIEW = "review"
    BLOCK = "block"


class RuleMode(StrEnum):
    """A live rule counts; a shadow rule is only written down."""

    LIVE = "live"
    SHADOW = "shadow"


class Degradation(StrEnum):
    """What was missing when the decision was made."""

    GEOIP = "geoip"
    VELOCITY = "velocity"
    FX = "fx"
    MODEL = "model"
    RULES = "rules"
    LISTS = "lists"
    REVOCATION = "revocation"


class DeliveryStatus(StrEnum):
    """Whether a decision was told to another service."""

    DELIVERED = "delivered"
    PENDING = "pending"
    NOT_NEEDED = "not_needed"


class Reason(Contract):
    """Why the outcome is what it is. Model contributions are log-odds; rule contributions are their score modifier."""

    code: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    message: str
    contribution: float
    source: ReasonSource


class RuleHit(Contract):
    """A rule that hit, or one that could not be evaluated (`error` says why)."""

    rule_id: str
    version: int
    action: RuleAction
    mode: RuleMode
    error: str | None = None


class ModelRef(Contract):
    """Which model scored."""

    name: str
    version: str


class GeoEnrichment(Contract):
    """Where the address was said to be."""

    status: GeoStatus
    country: str | None = None
    region: str | None = None
    city: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    asn: int | None = None
    network_kind: NetworkKind | None = None


class Enrichment(Contract):
    """What was added to the transaction from outside."""

    geo: GeoEnrichment


class Deliveries(Contract):
    """Who has been told."""

    alert: DeliveryStatus
    audit: DeliveryStatus


class ScoredTransaction(Contract):
    """The answer to `POST /v1/score`, and what `GET /v1/decisions/{id}` returns."""

    decision_id: str
    decision_sequence: int
    transaction_id: str
    outcome: Outcome
    policy_outcome: Outcome
    mode: EnforcementMode
    risk_score: int = Field(ge=0, le=100)
    fraud_probability: float = Field(ge=0, le=1)
    confidence: float = Field(ge=0, le=1)
    risk_level: RiskLevel
    reasons: tuple[Reason, ...]
    signals: dict[str, float] | None
    rule_hits: tuple[RuleHit, ...]
    model: ModelRef
    ruleset_version: int
    policy_version: int
    enrichment: Enrichment
    degraded: tuple[Degradation, ...]
    deliveries: Deliveries
    review_id: str | None
    timings_ms: dict[str, float]
    created_at: Timestamp
    schema_version: int = DECISION_SCHEMA_VERSION


class TransactionSummary(Contract):
    """One line of `GET /v1/transactions`."""

    transaction: dict[str, Any]
    decision: ScoredTransaction


class TransactionPage(Contract):
    """A page of transactions, newest first; `next_cursor` is null on the last page."""

    items: tuple[TransactionSummary, ...]
    next_cursor: str | None
