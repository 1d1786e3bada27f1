"""Alerts in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from alert_service.alerts.tables import alerts
from alert_service.notifications.tables import mail_recipients, mails
from common.bulk import BulkInsert
from common.bulk import Row as BulkRow
from common.contracts.alerts import AlertRequest
from common.failpoints import failpoint
from common.tenancy import of_tenant

ACCEPTED = (
    "alert_id",
    "institution_id",
    "institution_mode",
    "outcome",
    "policy_outcome",
    "accepted_at_ms",
    "body",
)
"""What is written of an alert when it is accepted."""
_add = BulkInsert(alerts, columns=ACCEPTED, ignore_repeats=True, returning="alert_id")


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts of an institution are wanted; None means any. Times are milliseconds since 1970."""

    outcome: str | None = None
    policy_outcome: str | None = None
    mail_state: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


def accept(connection: Connection, batch: Sequence[AlertRequest], *, now_ms: int) -> set[str]:
    """Write the alerts that are new and return their ids; repeats change nothing.

    Rows are written in the order of their ids, so that two processes never wait for each other.
    """
    fresh = set(_add.new(connection, alert_rows(batch, now_ms=now_ms)))
    failpoint("alerts.before_commit")
    return fresh


def warm_up(connection: Connection) -> None:
    """Make the statement for every number of rows now, so that nobody waits for it."""
    _add.warm_up(connection)


def alert_rows(batch: Sequence[AlertRequest], *, now_ms: int) -> list[BulkRow]:
    """Return the rows of alerts, each with the columns `ACCEPTED` in order, sorted by their ids."""
    return [
        (
            alert.alert_id,
            alert.institution.institution_id,
            alert.institution.mode.value,
            alert.outcome.value,
            alert.policy_outcome.value,
            now_ms,
            alert.model_dump_json().encode(),
        )
        for alert in sorted(batch, key=lambda alert: alert.alert_id)
    ]


def find_alert(connection: Connection, institution_id: str, alert_id: str) -> Row[Any] | None:
    """Return one alert of an institution, joined with its mail."""
    query = _with_mail().where(alerts.c.alert_id == alert_id)
    return connection.execute(of_tenant(institution_id, query)).one_or_none()


def list_alerts(
    connection: Connection, institution_id: str, wanted: AlertFilter, *, before: int | None, limit: int
) -> Sequence[Row[Any]]:
    """Return up to `limit` alerts of an institution, newest first, numbered below `before`."""
    query = _with_mail().order_by(alerts.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(alerts.c.number < before)
    return connection.execute(of_tenant(institution_id, _filtered(query, wanted))).all()


def recipients_of(
    connection: Connection, institution_id: str, mail_ids: Sequence[str]
) -> Mapping[str, list[Row[Any]]]:
    """Return to whom each of an institution's mails goes, and what became of it."""
    query = (
        select(mail_recipients)
        .where(mail_recipients.c.mail_id.in_(mail_ids))
        .order_by(mail_recipients.c.email)
    )
    rows = connection.execute(of_tenant(institution_id, query))
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.mail_id, []).append(row)
    return found


def _with_mail() -> Select[Any]:
    return select(
        alerts.c.number,
        alerts.c.body,
        alerts.c.accepted_at_ms,
        alerts.c.mail_id,
        mails.c.state,
        mails.c.attempts,
        mails.c.last_error,
        mails.c.delivered_at_ms,
    ).outerjoin(mails, mails.c.mail_id == alerts.c.mail_id)


def _filtered(query: Select[Any], wanted: AlertFilter) -> Select[Any]:
    for column in ("outcome", "policy_outcome"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(alerts.c[column] == value)
    if wanted.mail_state == "pending":
        query = query.where((mails.c.state == "pending") | alerts.c.mail_id.is_(None))
    elif wanted.mail_state is not None:
        query = query.where(mails.c.state == wanted.mail_state)
    if wanted.since_ms is not None:
        query = query.where(alerts.c.accepted_at_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(alerts.c.accepted_at_ms < wanted.until_ms)
    return query
