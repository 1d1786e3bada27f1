"""Drafts of decisions as scoring makes them, without scoring."""

from typing import Any

from ai_service.scoring.record import Draft
from common.canonical import sha256_hex
from common.clock import utc_now
from common.contracts.institutions import Institution
from common.ids import new_id
from tests.factories import SANDBOX, make_accepted


def make_draft(
    transaction_id: str = "tx-1",
    *,
    institution: Institution = SANDBOX,
    flagged: bool = False,
    **changes: Any,  # noqa: ANN401 - any field of a draft
) -> Draft:
    """Return a draft of a plain decision about `transaction_id`."""
    accepted = make_accepted(institution=institution, transaction_id=transaction_id)
    decision_id, now = new_id("dec"), utc_now()
    answer: dict[str, Any] = {
        "decision_id": decision_id,
        "decision_sequence": None,
        "transaction_id": transaction_id,
        "outcome": "decline" if flagged else "approve",
        "policy_outcome": "decline" if flagged else "approve",
        "risk_level": "high" if flagged else "low",
        "schema_version": 1,
    }
    fields: dict[str, Any] = {
        "decision_id": decision_id,
        "accepted": accepted,
        "observed_sequence": 1,
        "flagged": flagged,
        "created_at": now,
        "body_sha256": sha256_hex(accepted.transaction.body),
        "answer": answer,
        "record": {"decision": answer, "institution": {"institution_id": institution.institution_id}},
    }
    return Draft(**{**fields, **changes})
