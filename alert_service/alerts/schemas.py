"""Alerts as people read them."""

from enum import StrEnum

from common.contracts.alerts import AlertRequest
from common.contracts.fields import Contract, Timestamp


class MailState(StrEnum):
    """What became of a mail, or of one of its addresses. Alerts never expire; notices may."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD_LETTER = "dead_letter"
    EXPIRED = "expired"


class RecipientStatus(Contract):
    """One address and what became of it."""

    email: str
    state: MailState
    last_error: str | None


class Notification(Contract):
    """The mail that tells an alert; a pending one is tried until it is delivered or refused for good.

    `attempts` counts the mail's tries, `delivered_at` is when somebody first got it.
    """

    state: MailState
    attempts: int
    last_error: str | None
    delivered_at: Timestamp | None
    recipients: tuple[RecipientStatus, ...]


class Alert(Contract):
    """A flagged decision and how people were told."""

    alert: AlertRequest
    accepted_at: Timestamp
    notification: Notification


class AlertPage(Contract):
    """A page of alerts, newest first; `next_cursor` is null on the last page."""

    items: tuple[Alert, ...]
    next_cursor: str | None
