"""Mails in the database: what each tells, when it is due, what became of it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.sql import ColumnElement

from alert_service.alerts.schemas import MailState
from alert_service.alerts.tables import alerts
from alert_service.notifications.grouping import Waiting, mails_to_make
from alert_service.notifications.letters_repository import set_recipient
from alert_service.notifications.mail import Mail
from alert_service.notifications.outcomes import AfterAttempt
from alert_service.notifications.tables import mails
from common.ids import new_id
from common.tenancy import of_every_tenant, of_tenant

FAR_AHEAD_MS = 300_000
"""No lease or pause is this long: a time further ahead means a clock that was set back, and counts as past."""
_MAILER = "the mailer sends the mails of all"
_MEASURED = "what waits is measured for all together"
_IS_PENDING = mails.c.state == MailState.PENDING.value
_IS_UNTOLD = mails.c.delivered_at_ms.is_(None)


def waiting_alerts(connection: Connection) -> list[Waiting]:
    """Return, for each institution that has any, the alerts that are in no mail yet."""
    waiting = (
        select(
            alerts.c.institution_id,
            func.count().label("waiting"),
            func.min(alerts.c.accepted_at_ms).label("first"),
        )
        .where(alerts.c.mail_id.is_(None))
        .group_by(alerts.c.institution_id)
    )
    rows = connection.execute(of_every_tenant(waiting, _MAILER)).all()
    if not rows:
        return []
    untold: Counter[str] = Counter()
    mailed = (
        select(mails.c.institution_id, func.count())
        .where(_IS_PENDING, _IS_UNTOLD, mails.c.notice_id.is_(None))
        .group_by(mails.c.institution_id)
    )
    for institution_id, count in connection.execute(of_every_tenant(mailed, _MAILER)):
        untold[institution_id] = count
    return [
        Waiting(row.institution_id, row.waiting, row.first, untold_mails=untold[row.institution_id])
        for row in rows
    ]


def make_mails(
    connection: Connection,
    waiting: Sequence[Waiting],
    *,
    now_ms: int,
    collect_ms: int,
    max_alerts: int,
    domain: str,
) -> None:
    """Put alerts that waited long enough, or are many enough, into mails.

    Which alerts share a mail, and its Message-ID, are durable before it is sent: a retry sends the same mail.
    """
    for each in waiting:
        count = mails_to_make(each, now_ms=now_ms, collect_ms=collect_ms, max_alerts=max_alerts)
        numbers = _numbers(connection, each.institution_id, limit=count * max_alerts)
        for start in range(0, len(numbers), max_alerts):
            _make_mail(
                connection,
                each.institution_id,
                numbers[start : start + max_alerts],
                now_ms=now_ms,
                domain=domain,
            )


def add_mails(
    connection: Connection, wanted: Sequence[tuple[str, str | None]], *, now_ms: int, domain: str
) -> list[str]:
    """Write a mail for each institution and notice (None: alerts) in `wanted`, due now; return their ids."""
    mail_ids = [new_id("mail") for _ in wanted]
    rows = [
        {
            "mail_id": mail_id,
            "institution_id": institution_id,
            "message_id": f"<{mail_id}@{domain}>",
            "state": MailState.PENDING.value,
            "attempts": 0,
            "due_at_ms": now_ms,
            "leased_until_ms": 0,
            "created_at_ms": now_ms,
            "notice_id": notice_id,
        }
        for mail_id, (institution_id, notice_id) in zip(mail_ids, wanted, strict=True)
    ]
    connection.execute(mails.insert(), rows)
    return mail_ids


def claim(
    connection: Connection,
    *,
    now_ms: int,
    lease_ms: int,
    limit: int,
    busy: Mapping[str, int],
    per_institution: int,
) -> list[Mail]:
    """Lease up to `limit` due mails, the longest due first, at most `per_institution` of each with those `busy`.

    The UPDATE asks again whether each is free, so that two processes never hold the same mail.
    """
    may_go = (_IS_PENDING, _is_past(mails.c.due_at_ms, now_ms), _is_past(mails.c.leased_until_ms, now_ms))
    chosen = _chosen(connection, may_go, limit=limit, busy=busy, per_institution=per_institution)
    if not chosen:
        return []
    leasing = (
        update(mails)
        .where(mails.c.mail_id.in_(chosen), *may_go)
        .values(leased_until_ms=now_ms + lease_ms, attempts=mails.c.attempts + 1)
        .returning(
            mails.c.mail_id,
            mails.c.institution_id,
            mails.c.message_id,
            mails.c.attempts,
            mails.c.created_at_ms,
            mails.c.notice_id,
        )
    )
    return [Mail(*row) for row in connection.execute(of_every_tenant(leasing, _MAILER))]


def renew(connection: Connection, mail_ids: Collection[str], *, now_ms: int, until_ms: int) -> None:
    """Move the end of those leases on `mail_ids` that have not ended; what was finished meanwhile stays free."""
    if mail_ids:
        renewing = (
            update(mails)
            .where(mails.c.mail_id.in_(mail_ids), mails.c.leased_until_ms > now_ms)
            .values(leased_until_ms=until_ms)
        )
        connection.execute(of_every_tenant(renewing, _MAILER))


def give_back(connection: Connection, mail_ids: Collection[str]) -> None:
    """End the leases on `mail_ids`."""
    if mail_ids:
        ending = update(mails).where(mails.c.mail_id.in_(mail_ids)).values(leased_until_ms=0)
        connection.execute(of_every_tenant(ending, _MAILER))


def finish_attempt(
    connection: Connection, mail: Mail, result: AfterAttempt, *, now_ms: int, retry_ms: int
) -> None:
    """Write down what an attempt came to; a mail that is still pending is due again after `retry_ms`."""
    for address, (state, error) in result.recipients.items():
        set_recipient(connection, mail, address, state, error)
    finishing = (
        update(mails)
        .where(mails.c.mail_id == mail.mail_id)
        .values(
            state=result.state.value,
            due_at_ms=now_ms + retry_ms,
            leased_until_ms=0,
            delivered_at_ms=func.coalesce(
                mails.c.delivered_at_ms, now_ms if result.somebody_got_it else None
            ),
            last_error=None if result.error is None else result.error[:200],
        )
    )
    connection.execute(of_tenant(mail.institution_id, finishing))


def wake(connection: Connection, *, now_ms: int) -> None:
    """Make every mail that waits for its next try due now; leases stay."""
    waking = update(mails).where(_IS_PENDING, mails.c.due_at_ms > now_ms).values(due_at_ms=now_ms)
    connection.execute(of_every_tenant(waking, _MAILER))


def count_pending(connection: Connection) -> int:
    """Return how many mails are still to be delivered to somebody."""
    query = select(func.count()).select_from(mails).where(_IS_PENDING)
    return int(connection.scalar(of_every_tenant(query, _MEASURED)) or 0)


def oldest_untold_ms(connection: Connection) -> int | None:
    """Return when the oldest alert was accepted that nobody was told yet, in ms since 1970."""
    in_no_mail = select(func.min(alerts.c.accepted_at_ms)).where(alerts.c.mail_id.is_(None))
    in_a_mail = (
        select(func.min(alerts.c.accepted_at_ms))
        .join(mails, mails.c.mail_id == alerts.c.mail_id)
        .where(_IS_PENDING, _IS_UNTOLD)
    )
    found = [connection.scalar(of_every_tenant(query, _MEASURED)) for query in (in_no_mail, in_a_mail)]
    return min((each for each in found if each is not None), default=None)


def _is_past(column: ColumnElement[int], now_ms: int) -> ColumnElement[bool]:
    return (column <= now_ms) | (column > now_ms + FAR_AHEAD_MS)


def _numbers(connection: Connection, institution_id: str, *, limit: int) -> Sequence[int]:
    if limit == 0:
        return ()
    query = select(alerts.c.number).where(alerts.c.mail_id.is_(None)).order_by(alerts.c.number).limit(limit)
    return connection.scalars(of_tenant(institution_id, query)).all()


def _make_mail(
    connection: Connection, institution_id: str, numbers: Sequence[int], *, now_ms: int, domain: str
) -> None:
    (mail_id,) = add_mails(connection, [(institution_id, None)], now_ms=now_ms, domain=domain)
    taking = (
        update(alerts).where(alerts.c.number.in_(numbers), alerts.c.mail_id.is_(None)).values(mail_id=mail_id)
    )
    if connection.execute(of_tenant(institution_id, taking)).rowcount == 0:  # another process was faster
        connection.execute(of_tenant(institution_id, delete(mails).where(mails.c.mail_id == mail_id)))


def _chosen(
    connection: Connection,
    may_go: Sequence[ColumnElement[bool]],
    *,
    limit: int,
    busy: Mapping[str, int],
    per_institution: int,
) -> list[str]:
    order = (mails.c.due_at_ms, mails.c.created_at_ms, mails.c.mail_id)
    place = func.row_number().over(partition_by=mails.c.institution_id, order_by=order)
    full = [institution_id for institution_id, count in busy.items() if count >= per_institution]
    ranked = (
        select(*order, mails.c.institution_id, place.label("place"))
        .where(*may_go, mails.c.institution_id.not_in(full))
        .subquery()
    )
    query = select(ranked.c.mail_id, ranked.c.institution_id).where(ranked.c.place <= per_institution)
    query = query.order_by(ranked.c.due_at_ms, ranked.c.created_at_ms, ranked.c.mail_id)
    rows = connection.execute(of_every_tenant(query.limit(limit + len(busy) * per_institution), _MAILER))
    taken: Counter[str] = Counter(busy)
    chosen: list[str] = []
    for row in rows:
        if len(chosen) < limit and taken[row.institution_id] < per_institution:
            taken[row.institution_id] += 1
            chosen.append(row.mail_id)
    return chosen
