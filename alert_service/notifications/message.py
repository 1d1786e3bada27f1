"""Writes the mail that tells alerts. Pure: the same alerts, recipients and time give the same message."""

from collections import Counter
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

from alert_service.notifications.envelope import Envelope, compose
from common.contracts.alerts import AlertRequest
from common.contracts.currencies import EXPONENTS
from common.contracts.decisions import Outcome, ReasonSource
from common.contracts.institutions import InstitutionMode
from common.texts import one_line

_PAST = {
    Outcome.APPROVE: "approved but flagged",
    Outcome.CHALLENGE: "challenged",
    Outcome.REVIEW: "held for review",
    Outcome.DECLINE: "declined",
}
_COLOURS = {
    Outcome.APPROVE: "#2f6f4f",
    Outcome.CHALLENGE: "#8a6100",
    Outcome.REVIEW: "#9a4a00",
    Outcome.DECLINE: "#a3262a",
}


def build_message(
    alerts: Sequence[AlertRequest], envelope: Envelope, *, institution_name: str, link: str
) -> EmailMessage:
    """Return one mail for all `alerts` of one institution."""
    words = {
        "institution_name": one_line(institution_name) or "your institution",
        "sandbox": _is_sandbox(alerts),
        "summary": _summary(alerts),
        "alerts": [_shown(alert, link) for alert in alerts],
    }
    return compose(envelope, subject=subject(alerts), template="alerts", words=words)


def subject(alerts: Sequence[AlertRequest]) -> str:
    """Return the subject line; it holds nothing a payer could have written."""
    prefix = "[Assay] [sandbox]" if _is_sandbox(alerts) else "[Assay]"
    if len(alerts) > 1:
        return f"{prefix} {len(alerts)} payments need attention"
    alert = alerts[0]
    return f"{prefix} {_headline(alert)}: {_money(alert)}, risk {alert.risk_score}"


def _headline(alert: AlertRequest) -> str:
    kind = one_line(alert.transaction_type).capitalize()
    return f"{kind} {_what_happened(alert)}"


def _what_happened(alert: AlertRequest) -> str:
    if alert.outcome is not alert.policy_outcome:
        return f"would have been {_PAST[alert.policy_outcome]}"
    return _PAST[alert.outcome]


def _summary(alerts: Sequence[AlertRequest]) -> str:
    """Return e.g. `9 held for review, 3 declined`."""
    counted = Counter(_what_happened(alert) for alert in alerts).most_common()
    return ", ".join(f"{count} {what}" for what, count in counted)


def _money(alert: AlertRequest) -> str:
    """Write the amount with all decimals of its currency and none beyond what was sent."""
    decimals = max(EXPONENTS.get(alert.currency, 0), -int(alert.amount.normalize().as_tuple().exponent))
    return f"{one_line(alert.currency)} {alert.amount:.{decimals}f}"


def _shown(alert: AlertRequest, link: str) -> dict[str, Any]:
    return {
        "headline": _headline(alert),
        "colour": _COLOURS[alert.policy_outcome],
        "nothing_was_stopped": alert.outcome is not alert.policy_outcome,
        "amount": _money(alert),
        "details": [
            ("Risk", f"{alert.risk_score} of 100 ({alert.risk_level.value})"),
            ("Fraud probability", f"{alert.fraud_probability:.1%}"),
            ("Time", alert.event_time.strftime("%Y-%m-%d %H:%M:%S %Z")),
            ("Country", one_line(alert.country or "unknown")),
            ("Customer", one_line(alert.customer_id)),
            ("Transaction", one_line(alert.transaction_id)),
            ("Decision", alert.decision_id),
            ("Alert", alert.alert_id),
        ],
        "reasons": [_reason(reason.source, reason.message, reason.code) for reason in alert.reasons],
        "link": link.replace("{decision_id}", quote(alert.decision_id, safe="")),
    }


def _reason(source: ReasonSource, message: str, code: str) -> dict[str, str]:
    return {
        "source": "Rule" if source is ReasonSource.RULE else source.value.capitalize(),
        "message": one_line(message),
        "code": code,
    }


def _is_sandbox(alerts: Sequence[AlertRequest]) -> bool:
    return all(alert.institution.mode is InstitutionMode.SANDBOX for alert in alerts)
