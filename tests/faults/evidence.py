"""Collects what is really there: rows, archived lines, mails, and what still waits anywhere."""

import gzip
import re
import zlib
from collections.abc import Mapping, Set
from contextlib import closing
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Select, func, select

from ai_service.scoring.tables import decisions, outbox
from alert_service.alerts.tables import alerts
from alert_service.notifications.tables import mails as mail_table
from local_stack.tally import alert_ids_in
from log_service.archive.tables import bodies
from tests.faults.databases import connected
from tests.faults.decision_evidence import Decision, OrphanKey, orphan_keys, saved_decisions
from tests.faults.identity_evidence import (
    IdentityEvent,
    TakenNotice,
    admins_of,
    identity_events,
    taken_notices,
    untold,
)
from tests.faults.sources import Sources, objects, open_s3

_NOTICE_ID = re.compile(r"\bntc_[0-9a-z]{26}\b")


@dataclass(frozen=True, slots=True)
class ArchivedLine:
    """One line of one object: a decision, or an identity event."""

    key: str
    record_id: str
    line: bytes
    is_event: bool = False


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that was taken, as its envelope and its text have it."""

    mail_id: str
    recipients: tuple[str, ...]
    message_id: str
    alert_ids: frozenset[str]
    notice_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pending:
    """Something that still waits, and where."""

    place: str
    subject_id: str
    reason: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything that was found; None where nobody looked.

    `decision_ids` are those of all institutions; the rest is of those in scope. `mails` are also those that name an
    alert of theirs, whoever got them; `admins` are the addresses of each institution that may get its alerts.
    """

    decisions: list[Decision] = field(default_factory=list)
    decision_ids: frozenset[str] = frozenset()
    orphan_keys: list[OrphanKey] = field(default_factory=list)
    archived: list[ArchivedLine] | None = None
    unreadable: list[str] = field(default_factory=list)
    mails: list[Mail] | None = None
    admins: Mapping[str, frozenset[str]] | None = None
    alert_ids: frozenset[str] = frozenset()
    muted: frozenset[str] = frozenset()
    pending: list[Pending] = field(default_factory=list)
    events: list[IdentityEvent] | None = None
    archived_events: list[ArchivedLine] | None = None
    notices: list[TakenNotice] | None = None
    notice_mails: list[Mail] | None = None  # also those to addresses that are not in scope
    is_scoped: bool = False


@dataclass(frozen=True)
class Scope:
    """Whose things are looked at: one institution and the address its mails go to; empty means everybody's."""

    institution_id: str = ""
    email: str = ""


def collect(sources: Sources, scope: Scope) -> Evidence:
    """Look everywhere once."""
    with connected(sources.database_url) as connection:
        found_decisions = saved_decisions(connection, scope.institution_id)
        orphans = orphan_keys(connection, scope.institution_id)
        decision_ids = frozenset(connection.scalars(select(decisions.c.decision_id)))
        pending = _outbox(connection, scope)
    events, notices, admins = None, None, None
    if sources.user_database_url:
        with connected(sources.user_database_url) as connection:
            events = identity_events(connection, scope.institution_id)
            admins = admins_of(connection, scope.institution_id)
            pending += _untold(connection, scope)
    alert_ids: frozenset[str] = frozenset()
    muted: frozenset[str] = frozenset()
    if sources.alert_database_url:
        with connected(sources.alert_database_url) as connection:
            alert_ids, muted = _alerts(connection, scope)
            notices = taken_notices(connection, scope.institution_id)
            pending += _waiting_mails(connection, scope)
    if sources.log_database_url:
        with connected(sources.log_database_url) as connection:
            ours = {each.decision_id for each in found_decisions} | {each.event_id for each in events or ()}
            pending += _spool(connection, ours)
    archived, unreadable = _archive(sources, scope) if sources.s3_endpoint_url else (None, [])
    mails = _mails(sources.mailbox) if sources.mailbox else None
    our_alerts = {each.alert_id for each in found_decisions}
    return Evidence(
        decisions=found_decisions,
        decision_ids=decision_ids,
        orphan_keys=orphans,
        archived=None if archived is None else [line for line in archived if not line.is_event],
        archived_events=None if archived is None else [line for line in archived if line.is_event],
        events=events,
        notices=notices,
        notice_mails=mails,
        is_scoped=bool(scope.institution_id),
        unreadable=unreadable,
        mails=None if mails is None else [each for each in mails if _is_in(scope, each, our_alerts)],
        admins=admins,
        alert_ids=alert_ids,
        muted=muted,
        pending=pending,
    )


def waiting(sources: Sources, scope: Scope) -> list[Pending]:
    """Return only what still waits somewhere; cheap enough to ask again and again."""
    with connected(sources.database_url) as connection:
        pending = _outbox(connection, scope)
    if sources.user_database_url:
        with connected(sources.user_database_url) as connection:
            pending += _untold(connection, scope)
    if sources.alert_database_url:
        with connected(sources.alert_database_url) as connection:
            pending += _waiting_mails(connection, scope)
    if sources.log_database_url:
        with connected(sources.log_database_url) as connection:
            pending += _spool(connection, None)
    return pending


def _outbox(connection: Connection, scope: Scope) -> list[Pending]:
    query: Select[Any] = select(outbox.c.target, outbox.c.subject_id, outbox.c.last_error)
    if scope.institution_id:
        query = query.join(decisions, decisions.c.decision_id == outbox.c.subject_id).where(
            decisions.c.institution_id == scope.institution_id
        )
    return [
        Pending(f"outbox {row.target}", row.subject_id, row.last_error) for row in connection.execute(query)
    ]


def _alerts(connection: Connection, scope: Scope) -> tuple[frozenset[str], frozenset[str]]:
    """Return all alerts, and those whose mail was refused for good by everybody, which is written down."""
    query = select(alerts.c.alert_id, mail_table.c.state).outerjoin(
        mail_table, mail_table.c.mail_id == alerts.c.mail_id
    )
    if scope.institution_id:
        query = query.where(alerts.c.institution_id == scope.institution_id)
    found = connection.execute(query).all()
    return (
        frozenset(row.alert_id for row in found),
        frozenset(row.alert_id for row in found if row.state == "dead_letter"),
    )


def _waiting_mails(connection: Connection, scope: Scope) -> list[Pending]:
    unsent = select(mail_table.c.mail_id, mail_table.c.last_error).where(mail_table.c.state == "pending")
    unmade = select(alerts.c.alert_id).where(alerts.c.mail_id.is_(None))
    if scope.institution_id:
        unsent = unsent.where(mail_table.c.institution_id == scope.institution_id)
        unmade = unmade.where(alerts.c.institution_id == scope.institution_id)
    waiting_mails = [Pending("mail", row.mail_id, row.last_error) for row in connection.execute(unsent)]
    return waiting_mails + [
        Pending("alert without a mail", alert_id, None) for alert_id in connection.scalars(unmade)
    ]


def _untold(connection: Connection, scope: Scope) -> list[Pending]:
    return [
        Pending(f"user_service's outbox {each.target}", each.subject_id, each.last_error)
        for each in untold(connection, scope.institution_id)
    ]


def _spool(connection: Connection, ours: set[str] | None) -> list[Pending]:
    if ours is None:
        count = connection.scalar(select(func.count()).select_from(bodies)) or 0
        return [Pending("spool", f"{count} records", None)] if count else []
    spooled = connection.scalars(select(bodies.c.record_id))
    return [Pending("spool", record_id, None) for record_id in spooled if record_id in ours]


def _archive(sources: Sources, scope: Scope) -> tuple[list[ArchivedLine], list[str]]:
    lines: list[ArchivedLine] = []
    unreadable: list[str] = []
    with closing(open_s3(sources)) as client:
        for key, content in objects(client, sources.s3_bucket, scope.institution_id):
            try:
                lines += [_archived(key, line) for line in gzip.decompress(content).splitlines()]
            except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError):
                unreadable.append(key)
    return lines, unreadable


def _archived(key: str, line: bytes) -> ArchivedLine:
    content = orjson.loads(line)
    if "event" in content:
        return ArchivedLine(key, str(content["event"]["event_id"]), line, is_event=True)
    return ArchivedLine(key, str(content["decision"]["decision_id"]), line)


def _mails(folder: Path) -> list[Mail]:
    return [_mail(path) for path in sorted(folder.glob("mail_*.eml"))]


def _is_in(scope: Scope, mail: Mail, our_alerts: Set[str]) -> bool:
    return not scope.email or scope.email in mail.recipients or not mail.alert_ids.isdisjoint(our_alerts)


def _mail(path: Path) -> Mail:
    message = message_from_bytes(path.read_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    part = message.get_body(("plain",))
    text = "" if part is None else str(part.get_content())
    recipients = str(message.get("X-Envelope-To", "")).split(",")
    return Mail(
        mail_id=path.stem,
        recipients=tuple(address.strip() for address in recipients if address.strip()),
        message_id=str(message.get("Message-ID", "")),
        alert_ids=frozenset(alert_ids_in(text)),
        notice_ids=frozenset(_NOTICE_ID.findall(text)),
    )
