"""Builds test data; each factory names only what matters to the test."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction, accept
from ai_service.features.definitions import FEATURE_NAMES
from ai_service.rules.engine import Rule, RuleHit
from common.contracts.decisions import RuleAction
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.transactions import Transaction

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
SANDBOX = Institution(institution_id="ins_test", mode=InstitutionMode.SANDBOX, base_currency="EUR")
LIVE = Institution(institution_id="ins_live", mode=InstitutionMode.LIVE, base_currency="EUR")


def transaction_body(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return the JSON body of a plain transaction; `changes` replace fields, and None removes one."""
    body: dict[str, Any] = {
        "transaction_id": "tx-1",
        "event_time": NOW.isoformat(),
        "amount": "25.00",
        "currency": "EUR",
        "transaction_type": "payment",
        "customer_id": "customer-1",
        "merchant_id": "merchant-1",
        "payment_method": {"type": "card", "card_token": "tok_1", "card_country": "DE"},
        "channel": "web",
        "ip_address": "81.2.69.160",
        "device_id": "device-1",
        "billing_country": "DE",
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def make_transaction(**changes: Any) -> Transaction:  # noqa: ANN401 - any JSON
    """Return a plain transaction with `changes`."""
    return Transaction.model_validate(transaction_body(**changes))


def make_accepted(
    *,
    institution: Institution = SANDBOX,
    now: datetime | None = None,
    **changes: Any,  # noqa: ANN401 - any JSON
) -> AcceptedTransaction:
    """Return a plain accepted transaction; it is received at its event time unless `now` is given."""
    transaction = make_transaction(**changes)
    return accept(
        transaction,
        institution,
        amount_base_minor=transaction.amount_minor,
        now=now or transaction.event_time,
        accepted_by="usr_test",
        request_id="req-test",
    )


def make_rule(**changes: Any) -> Rule:  # noqa: ANN401 - any field
    """Return a live rule that challenges."""
    fields: dict[str, Any] = {
        "rule_id": "some_rule",
        "version": 1,
        "action": RuleAction.CHALLENGE,
        "condition": "transaction.amount > 10.0",
        "message": "The amount is more than ten",
        **changes,
    }
    return Rule(**fields)


def make_rule_hit(*, error: str | None = None, **changes: Any) -> RuleHit:  # noqa: ANN401 - any field of a rule
    """Return the hit of a rule with `changes`."""
    return RuleHit(make_rule(**changes), error=error)


def make_features(**changes: float) -> NDArray[np.float64]:
    """Return a feature vector of zeros with `changes` by name."""
    features = np.zeros(len(FEATURE_NAMES), dtype=np.float64)
    for name, value in changes.items():
        features[FEATURE_NAMES.index(name)] = value
    return features
