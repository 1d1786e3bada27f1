"""The record of a decision: what is saved, archived and shown. Pure.

A draft is everything but the sequence number, which only the commit can give. The record is the draft with its
number, as canonical bytes (`common.canonical`); those bytes are never made again. `make_draft` is
over the house limit because it is the table of what goes where.

Record, schema version 1: `kind`, `schema_version`, `institution` {institution_id, mode, base_currency},
`transaction` (canonical request), `accepted` {received_at, accepted_by, request_id, amount_base_minor,
observed_sequence, null when velocity was unknown}, `features` {name: number or null}, `decision` (the answer without `deliveries`), `exact`
{risk_score, modifier, flagged}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.ml.predictor import FraudModel
from ai_service.rules.engine import RuleHit
from ai_service.scoring.decision import Decision
from common.canonical import canonical_bytes, sha256_hex
from common.contracts.alerts import AlertRequest
from common.contracts.audit_records import RecordKind
from common.contracts.decisions import (
    DECISION_SCHEMA_VERSION,
    Degradation,
    Deliveries,
    Reason,
    ScoredTransaction,
)
from common.contracts.geoip import GeoLocation, GeoStatus
from common.ids import new_id

# in the order in which callers read them; inside a field, keys are sorted as the saved record has them
_ANSWER_FIELDS = tuple(name for name in ScoredTransaction.model_fields if name != "deliveries")


@dataclass(slots=True)
class Draft:
    """A decision that is ready to be saved."""

    decision_id: str
    accepted: AcceptedTransaction
    observed_sequence: int | None
    flagged: bool
    created_at: datetime
    body_sha256: str
    answer: dict[str, Any]
    record: dict[str, Any]

    def numbered(self, decision_sequence: int) -> bytes:
        """Return the canonical bytes of the record with its place in the institution's sequence."""
        self.answer["decision_sequence"] = decision_sequence
        return canonical_bytes(self.record)


@dataclass(slots=True)
class Explanation:
    """Why, as it is answered; `signals` is None where contributions were not computed."""

    reasons: Sequence[Reason]
    signals: Mapping[str, float] | None
    confidence: float


def make_draft(  # noqa: PLR0913 - a record joins what every stage found
    accepted: AcceptedTransaction,
    *,
    location: GeoLocation,
    observed_sequence: int | None,
    features: NDArray[np.float64],
    decision: Decision,
    explanation: Explanation,
    model: FraudModel,
    ruleset_version: int,
    created_at: datetime,
) -> Draft:
    """Join what every stage found into one draft."""
    decision_id = new_id("dec")
    answer: dict[str, Any] = {
        "decision_id": decision_id,
        "decision_sequence": None,
        "transaction_id": accepted.transaction.transaction_id,
        "outcome": decision.outcome,
        "policy_outcome": decision.policy_outcome,
        "mode": decision.policy.mode,
        "risk_score": round(decision.risk_score),
        "fraud_probability": decision.fraud_probability,
        "confidence": explanation.confidence,
        "risk_level": decision.risk_level,
        "reasons": [_sorted_fields(reason) for reason in explanation.reasons],
        "signals": None if explanation.signals is None else dict(sorted(explanation.signals.items())),
        "rule_hits": [_rule_hit(hit) for hit in decision.rule_hits],
        "model": {"name": model.name, "version": model.version},
        "ruleset_version": ruleset_version,
        "policy_version": decision.policy.version,
        "enrichment": {"geo": _geo(location)},
        "degraded": degradations(accepted, location, observed_sequence, decision),
        "review_id": None,
        "timings_ms": dict(sorted(accepted.timer.laps.items())),
        "created_at": created_at,
        "schema_version": DECISION_SCHEMA_VERSION,
    }
    institution = accepted.institution
    record = {
        "kind": RecordKind.DECISION,
        "schema_version": DECISION_SCHEMA_VERSION,
        "institution": {
            "institution_id": institution.institution_id,
            "mode": institution.mode,
            "base_currency": institution.base_currency,
        },
        "transaction": orjson.Fragment(accepted.transaction.body),
        "accepted": {
            "received_at": accepted.received_at,
            "accepted_by": accepted.accepted_by,
            "request_id": accepted.request_id,
            "amount_base_minor": accepted.amount_base_minor,
            "observed_sequence": observed_sequence,
        },
        "features": dict(zip(model.feature_names, features.tolist(), strict=True)),  # NaN is written as null
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


def answer_bytes(answer: Mapping[str, Any], deliveries: Deliveries) -> bytes:
    """Return the answer as it goes to the caller: the same bytes for a fresh decision and for a saved one."""
    ordered = {name: answer[name] for name in _ANSWER_FIELDS}
    ordered["deliveries"] = {"alert": deliveries.alert, "audit": deliveries.audit}
    return orjson.dumps(ordered, option=orjson.OPT_UTC_Z)


def degradations(
    accepted: AcceptedTransaction, location: GeoLocation, observed_sequence: int | None, decision: Decision
) -> list[Degradation]:
    """Return what was missing when the decision was made."""
    missing = [] if observed_sequence is not None else [Degradation.VELOCITY]
    if location.status is GeoStatus.UNAVAILABLE:
        missing.append(Degradation.GEOIP)
    if accepted.amount_base_minor is None:
        missing.append(Degradation.FX)
    if any(hit.error for hit in decision.rule_hits):
        missing.append(Degradation.RULES)
    if accepted.access_is_stale:
        missing.append(Degradation.REVOCATION)
    return missing


def scored_transaction(answer: Mapping[str, Any], deliveries: Deliveries) -> ScoredTransaction:
    """Return the answer of a saved record, with who has been told by now."""
    return ScoredTransaction.model_validate({**answer, "deliveries": deliveries})


def feature_vector(record: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.float64]:
    """Return a saved record's features in the order of `names`, float64; NaN is unknown, or was not computed."""
    saved = [record["features"].get(name) for name in names]
    return np.array([np.nan if value is None else value for value in saved], dtype=np.float64)


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


def audit_record(
    institution: Mapping[str, Any], answer: Mapping[str, Any], request_id: str, body: bytes
) -> dict[str, Any]:
    """Return what log_service is told, as `AuditRecord` has it: the canonical bytes and what it files them by."""
    return {
        "record_id": answer["decision_id"],
        "kind": RecordKind.DECISION,
        "institution_id": institution["institution_id"],
        "institution_mode": institution["mode"],
        "sequence": answer["decision_sequence"],
        "created_at": answer["created_at"],
        "request_id": request_id,
        "sha256": sha256_hex(body),
        "body": body.decode(),
    }


def saved_audit_record(body: bytes) -> dict[str, Any]:
    """Return what log_service is told about a decision that was saved earlier."""
    record = parse_record(body)
    return audit_record(record["institution"], record["decision"], record["accepted"]["request_id"], body)


def parse_record(body: bytes) -> dict[str, Any]:
    """Return a saved record as it was written."""
    found: dict[str, Any] = orjson.loads(body)
    return found


def _rule_hit(hit: RuleHit) -> dict[str, Any]:
    rule = hit.rule
    return {
        "action": rule.action,
        "error": hit.error,
        "mode": rule.mode,
        "rule_id": rule.rule_id,
        "version": rule.version,
    }


def _geo(location: GeoLocation) -> dict[str, Any]:
    return {
        "asn": location.asn,
        "city": location.city,
        "country": location.country,
        "latitude": location.latitude,
        "longitude": location.longitude,
        "network_kind": location.network_kind,
        "region": location.region,
        "status": location.status,
    }


def _sorted_fields(reason: Reason) -> dict[str, Any]:
    return {
        "code": reason.code,
        "contribution": reason.contribution,
        "message": reason.message,
        "source": reason.source,
    }
