"""The record of a decision: what is saved, archived and shown. Pure.

A draft is everything but the sequence number, which only the commit can give. The record is the draft with its
number, as canonical bytes (`common.canonical`); those bytes are never made again. `make_draft` is
over the house limit because it is the table of what goes where.

Record, schema version 1: `kind`, `schema_version`, `institution` {institution_id, mode, base_currency},
`transaction` (canonical request), `accepted` {received_at, accepted_by, request_id, amount_base_minor,
observed_sequence}, `features` {name: number or null}, `decision` (the answer without `deliveries`), `exact`
{risk_score, modifier, flagged}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isnan
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.definitions import FEATURE_NAMES
from ai_service.scoring.decision import Decision
from common.canonical import canonical_bytes, sha256_hex
from common.contracts.alerts import AlertRequest
from common.contracts.audit_records import AuditRecord, RecordKind
from common.contracts.decisions import (
    DECISION_SCHEMA_VERSION,
    Degradation,
    Deliveries,
    GeoEnrichment,
    ModelRef,
    Reason,
    RuleHit,
    ScoredTransaction,
)
from common.contracts.geoip import GeoLocation, GeoStatus
from common.ids import new_id


@dataclass(frozen=True, slots=True)
class Draft:
    """A decision that is ready to be saved."""

    decision_id: str
    accepted: AcceptedTransaction
    observed_sequence: int
    flagged: bool
    created_at: datetime
    body_sha256: str
    answer: dict[str, Any]
    record: dict[str, Any]

    def numbered(self, decision_sequence: int) -> bytes:
        """Return the canonical bytes of the record with its place in the institution's sequence."""
        self.answer["decision_sequence"] = decision_sequence
        return canonical_bytes(self.record)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why, as it is answered; `signals` is None where contributions were not computed."""

    reasons: Sequence[Reason]
    signals: Mapping[str, float] | None
    confidence: float


def make_draft(  # noqa: PLR0913 - a record joins what every stage found
    accepted: AcceptedTransaction,
    *,
    location: GeoLocation,
    observed_sequence: int,
    features: NDArray[np.float64],
    decision: Decision,
    explanation: Explanation,
    model: ModelRef,
    ruleset_version: int,
    created_at: datetime,
) -> Draft:
    """Join what every stage found into one draft."""
    decision_id = new_id("dec")
    answer: dict[str, Any] = {
        "decision_id": decision_id,
        "transaction_id": accepted.transaction.transaction_id,
        "outcome": decision.outcome.value,
        "policy_outcome": decision.policy_outcome.value,
        "mode": decision.policy.mode.value,
        "risk_score": round(decision.risk_score),
        "fraud_probability": decision.fraud_probability,
        "confidence": explanation.confidence,
        "risk_level": decision.risk_level.value,
        "reasons": [reason.model_dump(mode="json") for reason in explanation.reasons],
        "signals": explanation.signals,
        "rule_hits": [
            RuleHit(
                rule_id=hit.rule.rule_id,
                version=hit.rule.version,
                action=hit.rule.action,
                mode=hit.rule.mode,
                error=hit.error,
            ).model_dump(mode="json")
            for hit in decision.rule_hits
        ],
        "model": {"name": model.name, "version": model.version},
        "ruleset_version": ruleset_version,
        "policy_version": decision.policy.version,
        "enrichment": {"geo": GeoEnrichment(**dict(location)).model_dump(mode="json")},
        "degraded": [part.value for part in degradations(accepted, location, decision)],
        "review_id": None,
        "timings_ms": accepted.timer.laps,
        "created_at": created_at.isoformat(),
        "schema_version": DECISION_SCHEMA_VERSION,
    }
    record = {
        "kind": RecordKind.DECISION.value,
        "schema_version": DECISION_SCHEMA_VERSION,
        "institution": accepted.institution.model_dump(mode="json"),
        "transaction": accepted.transaction.canonical,
        "accepted": {
            "received_at": accepted.received_at.isoformat(),
            "accepted_by": accepted.accepted_by,
            "request_id": accepted.request_id,
            "amount_base_minor": accepted.amount_base_minor,
            "observed_sequence": observed_sequence,
        },
        "features": dict(zip(FEATURE_NAMES, _numbers(features), strict=True)),
        "decision": answer,
        "exact": {
            "risk_score": decision.risk_score,
            "modifier": decision.modifier,
            "flagged": decision.flagged,
        },
    }
    return Draft(
        decision_id=decision_id,
        accepted=accepted,
        observed_sequence=observed_sequence,
        flagged=decision.flagged,
        created_at=created_at,
        body_sha256=sha256_hex(accepted.transaction.body),
        answer=answer,
        record=record,
    )


def degradations(
    accepted: AcceptedTransaction, location: GeoLocation, decision: Decision
) -> list[Degradation]:
    """Return what was missing when the decision was made."""
    missing = []
    if location.status is GeoStatus.UNAVAILABLE:
        missing.append(Degradation.GEOIP)
    if accepted.amount_base_minor is None:
        missing.append(Degradation.FX)
    if any(hit.error for hit in decision.rule_hits):
        missing.append(Degradation.RULES)
    return missing


def scored_transaction(answer: Mapping[str, Any], deliveries: Deliveries) -> ScoredTransaction:
    """Return the answer of a saved record, with who has been told by now."""
    return ScoredTransaction.model_validate({**answer, "deliveries": deliveries})


def feature_vector(record: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.float64]:
    """Return a saved record's features in the order of `names`, float64, unknown as NaN."""
    saved = record["features"]
    return np.array([np.nan if saved[name] is None else saved[name] for name in names], dtype=np.float64)


def alert_request(record: Mapping[str, Any]) -> AlertRequest:
    """Return what alert_service is told about a flagged decision."""
    answer, transaction = record["decision"], record["transaction"]
    return AlertRequest(
        alert_id=alert_id(answer["decision_id"]),
        institution=record["institution"],
        decision_id=answer["decision_id"],
        decision_sequence=answer["decision_sequence"],
        transaction_id=answer["transaction_id"],
        customer_id=transaction["customer_id"],
        request_id=record["accepted"]["request_id"],
        outcome=answer["outcome"],
        policy_outcome=answer["policy_outcome"],
        risk_score=answer["risk_score"],
        risk_level=answer["risk_level"],
        fraud_probability=answer["fraud_probability"],
        amount=transaction["amount"],
        currency=transaction["currency"],
        transaction_type=transaction["transaction_type"],
        country=answer["enrichment"]["geo"]["country"],
        reasons=answer["reasons"],
        event_time=transaction["event_time"],
        decided_at=answer["created_at"],
    )


def alert_id(decision_id: str) -> str:
    """Return the stable id of the alert that a flagged decision raises."""
    return "alr_" + decision_id.removeprefix("dec_")


def audit_record(record: Mapping[str, Any], body: bytes) -> AuditRecord:
    """Return what log_service is told: the canonical bytes and what it needs to file them."""
    answer, institution = record["decision"], record["institution"]
    return AuditRecord(
        record_id=answer["decision_id"],
        kind=RecordKind.DECISION,
        institution_id=institution["institution_id"],
        institution_mode=institution["mode"],
        sequence=answer["decision_sequence"],
        created_at=answer["created_at"],
        request_id=record["accepted"]["request_id"],
        sha256=sha256_hex(body),
        body=body.decode(),
    )


def parse_record(body: bytes) -> dict[str, Any]:
    """Return a saved record as it was written."""
    found: dict[str, Any] = orjson.loads(body)
    return found


def _numbers(features: NDArray[np.float64]) -> list[float | None]:
    return [None if isnan(value) else value for value in features.tolist()]
