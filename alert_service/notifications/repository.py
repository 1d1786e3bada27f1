"""Mails in the database: which alerts share one, when it is due, what became of it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from alert_service.alerts.schemas import MailState
from alert_service.alerts.tables import alerts
from alert_service.notifications.outcomes import AfterAttempt
from alert_service.notifications.tables import mail_recipients, mails, recipients
from common.contracts.institutions import Recipients
from common.db import insert_ignoring_repeats
from common.ids import new_id

FAR_AHEAD_MS = (
    300_000  # no lease or pause is this long: a due time further ahead means a clock that was set back
)


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that is about to be sent. `recipients` is None until it was first known to whom it goes."""

    mail_id: str
    institution_id: str
    message_id: str
    attempts: int
    created_at_ms: int
    recipients: tuple[str, ...] | None
    delivered_before: bool


def make_mails(connection: Connection, *, now_ms: int, collect_ms: int, max_alerts: int, domain: str) -> int:
    """Put alerts that waited long enough, or are many enough, into mails; return how many mails were made.

    Which alerts share a mail, and its Message-ID, are durable before it is sent: a retry sends the same mail.
    """
    waiting = connection.execute(
        select(
            alerts.c.institution_id,
            func.min(alerts.c.accepted_at_ms).label("first"),
            func.count().label("waiting"),
        )
        .where(alerts.c.mail_id.is_(None))
        .group_by(alerts.c.institution_id)
    ).all()
    made = 0
    for institution in waiting:
        ripe = institution.first <= now_ms - collect_ms or institution.first > now_ms
        if ripe or institution.waiting >= max_alerts:
            made += _make_mails_of(connection, institution.institution_id, now_ms, max_alerts, domain)
    return made


def claim(
    connection: Connection, *, now_ms: int, lease_ms: int, limit: int, busy: Collection[str]
) -> list[Mail]:
    """Lease up to `limit` due mails, one for each institution that is not `busy`, the longest due first."""
    is_due = (mails.c.due_at_ms <= now_ms) | (mails.c.due_at_ms > now_ms + FAR_AHEAD_MS)
    query = (
        select(mails)
        .where(mails.c.state == MailState.PENDING.value, is_due, mails.c.institution_id.not_in(list(busy)))
        .order_by(mails.c.due_at_ms, mails.c.created_at_ms, mails.c.mail_id)
        .with_for_update(skip_locked=True)
    )
    chosen: dict[str, Row[Any]] = {}
    for row in connection.execute(query.limit(limit * 64)):
        if len(chosen) < limit:
            chosen.setdefault(row.institution_id, row)
    connection.execute(
        update(mails)
        .where(mails.c.mail_id.in_([row.mail_id for row in chosen.values()]))
        .values(due_at_ms=now_ms + lease_ms, attempts=mails.c.attempts + 1)
    )
    return [_mail(connection, row) for row in chosen.values()]


def alerts_of(connection: Connection, mail_id: str) -> list[bytes]:
    """Return the alerts of a mail as JSON, in the order in which they were accepted."""
    rows = connection.execute(
        select(alerts.c.body).where(alerts.c.mail_id == mail_id).order_by(alerts.c.number)
    )
    return [row.body for row in rows]


def set_recipients(connection: Connection, mail_id: str, addresses: Sequence[str]) -> None:
    """Fix to whom a mail goes."""
    connection.execute(
        insert_ignoring_repeats(connection, mail_recipients),
        [{"mail_id": mail_id, "email": address, "state": MailState.PENDING.value} for address in addresses],
    )


def finish_attempt(
    connection: Connection, mail: Mail, result: AfterAttempt, *, now_ms: int, retry_ms: int
) -> None:
    """Write down what an attempt came to; a mail that is still pending is due again after `retry_ms`."""
    for address, (state, error) in result.recipients.items():
        connection.execute(
            update(mail_recipients)
            .where(mail_recipients.c.mail_id == mail.mail_id, mail_recipients.c.email == address)
            .values(state=state.value, last_error=None if error is None else error[:200])
        )
    connection.execute(
        update(mails)
        .where(mails.c.mail_id == mail.mail_id)
        .values(
            state=result.state.value,
            due_at_ms=now_ms + retry_ms,
            delivered_at_ms=now_ms if result.state is MailState.DELIVERED else None,
            last_error=None if result.error is None else result.error[:200],
        )
    )


def wake(connection: Connection, *, now_ms: int) -> None:
    """Make every mail that waits after a failure due now."""
    connection.execute(
        update(mails)
        .where(
            mails.c.state == MailState.PENDING.value,
            mails.c.last_error.is_not(None),
            mails.c.due_at_ms > now_ms,
        )
        .values(due_at_ms=now_ms)
    )


def count_pending(connection: Connection) -> int:
    """Return how many mails and unassigned alerts wait."""
    waiting = connection.scalar(select(func.count()).select_from(mails).where(mails.c.state == "pending"))
    unassigned = connection.scalar(select(func.count()).select_from(alerts).where(alerts.c.mail_id.is_(None)))
    return int(waiting or 0) + int(unassigned or 0)


def known_recipients(connection: Connection, institution_id: str) -> tuple[Recipients, int] | None:
    """Return the last copy of an institution's recipients and when it was fetched, in ms since 1970."""
    row = connection.execute(
        select(recipients).where(recipients.c.institution_id == institution_id)
    ).one_or_none()
    if row is None:
        return None
    found = Recipients(
        institution_id=institution_id,
        institution_name=row.institution_name,
        emails=tuple(json.loads(row.emails)),
    )
    return found, row.fetched_at_ms


def keep_recipients(connection: Connection, found: Recipients, *, now_ms: int) -> None:
    """Keep a copy of an institution's recipients, for when user_service is away."""
    values = {
        "institution_name": found.institution_name,
        "emails": json.dumps(list(found.emails)),
        "fetched_at_ms": now_ms,
    }
    written = connection.execute(
        update(recipients).where(recipients.c.institution_id == found.institution_id).values(**values)
    )
    if written.rowcount == 0:
        connection.execute(
            insert_ignoring_repeats(connection, recipients).values(
                institution_id=found.institution_id, **values
            )
        )


def _make_mails_of(
    connection: Connection, institution_id: str, now_ms: int, max_alerts: int, domain: str
) -> int:
    numbers = list(
        connection.scalars(
            select(alerts.c.number)
            .where(alerts.c.institution_id == institution_id, alerts.c.mail_id.is_(None))
            .order_by(alerts.c.number)
            .limit(20 * max_alerts)
        )
    )
    for start in range(0, len(numbers), max_alerts):
        mail_id = new_id("mail")
        connection.execute(
            mails.insert().values(
                mail_id=mail_id,
                institution_id=institution_id,
                message_id=f"<{mail_id}@{domain}>",
                state=MailState.PENDING.value,
                attempts=0,
                due_at_ms=now_ms,
                created_at_ms=now_ms,
            )
        )
        connection.execute(
            update(alerts)
            .where(alerts.c.number.in_(numbers[start : start + max_alerts]))
            .values(mail_id=mail_id)
        )
    return -(-len(numbers) // max_alerts)


def _mail(connection: Connection, row: Row[Any]) -> Mail:
    told = connection.execute(
        select(mail_recipients.c.email, mail_recipients.c.state)
        .where(mail_recipients.c.mail_id == row.mail_id)
        .order_by(mail_recipients.c.email)
    ).all()
    return Mail(
        mail_id=row.mail_id,
        institution_id=row.institution_id,
        message_id=row.message_id,
        attempts=row.attempts + 1,
        created_at_ms=row.created_at_ms,
        recipients=tuple(each.email for each in told if each.state == MailState.PENDING) if told else None,
        delivered_before=any(each.state == MailState.DELIVERED for each in told),
    )
