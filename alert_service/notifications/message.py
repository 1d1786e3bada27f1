"""Writes the mail that tells alerts. Pure: the same alerts, recipients and time give the same message."""

from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from common.contracts.alerts import AlertRequest
from common.contracts.decisions import Outcome, ReasonSource
from common.contracts.institutions import InstitutionMode

_PAST = {
    Outcome.APPROVE: "approved",
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
    alerts: Sequence[AlertRequest],
    *,
    institution_name: str,
    message_id: str,
    sender: str,
    recipients: Sequence[str],
    link: str,
    written_at: datetime,
) -> EmailMessage:
    """Return one mail for all `alerts` of one institution; its Message-ID and Date do not change with retries."""
    message = EmailMessage(policy=SMTP.clone(max_line_length=200))
    message["Subject"] = subject(alerts)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(written_at)
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"
    words = {
        "institution_name": institution_name,
        "sandbox": _is_sandbox(alerts),
        "alerts": [_shown(alert, link) for alert in alerts],
    }
    message.set_content(_templates().get_template("alerts.txt").render(words))
    message.add_alternative(_templates().get_template("alerts.html").render(words), subtype="html")
    return message


def subject(alerts: Sequence[AlertRequest]) -> str:
    """Return the subject line; it holds nothing a payer could have written."""
    prefix = "[Assay] [sandbox]" if _is_sandbox(alerts) else "[Assay]"
    if len(alerts) > 1:
        return f"{prefix} {len(alerts)} payments need attention"
    alert = alerts[0]
    return f"{prefix} {_headline(alert)}: {alert.currency} {alert.amount}, risk {alert.risk_score}"


def _headline(alert: AlertRequest) -> str:
    kind = alert.transaction_type.capitalize()
    if alert.outcome is not alert.policy_outcome:
        return f"{kind} would have been {_PAST[alert.policy_outcome]}"
    return f"{kind} {_PAST[alert.outcome]}"


def _shown(alert: AlertRequest, link: str) -> dict[str, Any]:
    return {
        "headline": _headline(alert),
        "colour": _COLOURS[alert.policy_outcome],
        "nothing_was_stopped": alert.outcome is not alert.policy_outcome,
        "amount": f"{alert.currency} {alert.amount}",
        "event_time": alert.event_time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "risk": f"{alert.risk_score} of 100 ({alert.risk_level.value})",
        "probability": f"{alert.fraud_probability:.1%}",
        "country": alert.country or "unknown",
        "customer_id": alert.customer_id,
        "transaction_id": alert.transaction_id,
        "decision_id": alert.decision_id,
        "alert_id": alert.alert_id,
        "reasons": [_reason(reason.source, reason.message, reason.code) for reason in alert.reasons],
        "link": link.replace("{decision_id}", quote(alert.decision_id, safe="")),
    }


def _reason(source: ReasonSource, message: str, code: str) -> dict[str, str]:
    return {
        "source": "Rule" if source is ReasonSource.RULE else source.value.capitalize(),
        "message": message,
        "code": code,
    }


def _is_sandbox(alerts: Sequence[AlertRequest]) -> bool:
    return alerts[0].institution.mode is InstitutionMode.SANDBOX


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("alert_service.notifications"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
