"""Collects what user_service did and asked for: identity events, notices, and what it still has to tell."""

import json
from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, select

from alert_service.notices.tables import notices
from alert_service.notifications.tables import mails
from common.contracts.roles import Role
from user_service.events.tables import IdentityEventRow
from user_service.notices.tables import NoticeRow
from user_service.outbox import NOTICES
from user_service.outbox import table as outbox
from user_service.users.tables import UserRow


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """A row of the identity events."""

    event_id: str
    institution_id: str
    sequence: int
    action: str
    body: bytes


@dataclass(frozen=True, slots=True)
class TakenNotice:
    """A notice that alert_service took; `state` is what became of its mail, None where it has none."""

    notice_id: str
    state: str | None
    has_secret: bool


@dataclass(frozen=True, slots=True)
class Untold:
    """Something user_service has to tell, and what went wrong at the last try."""

    target: str
    subject_id: str
    last_error: str | None


def identity_events(connection: Connection, institution_id: str) -> list[IdentityEvent]:
    """Return the events of an institution; of all where none is named."""
    query = select(
        IdentityEventRow.event_id,
        IdentityEventRow.institution_id,
        IdentityEventRow.sequence,
        IdentityEventRow.action,
        IdentityEventRow.body,
    )
    if institution_id:
        query = query.where(IdentityEventRow.institution_id == institution_id)
    return [IdentityEvent(*row) for row in connection.execute(query)]


def admins_of(connection: Connection, institution_id: str) -> dict[str, frozenset[str]]:
    """Return the addresses of those who run an institution or once did, and have joined; of all where none is named.

    Somebody who is no admin any more may have got a mail while they were one.
    """
    leads = UserRow.role.in_((Role.ADMIN, Role.OPERATOR)) | UserRow.led_until_ms.is_not(None)
    query = select(UserRow.institution_id, UserRow.email).where(leads, UserRow.login_key != UserRow.user_id)
    if institution_id:
        query = query.where(UserRow.institution_id == institution_id)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in connection.execute(query):
        found[row.institution_id].add(row.email)
    return {each: frozenset(addresses) for each, addresses in found.items()}


def untold(connection: Connection, institution_id: str) -> list[Untold]:
    """Return what user_service still has to tell about an institution; about all where none is named."""
    events = select(IdentityEventRow.event_id, IdentityEventRow.institution_id)
    about = {row.event_id: row.institution_id for row in connection.execute(events)}
    for notice_id, body in connection.execute(select(NoticeRow.notice_id, NoticeRow.body)):
        about[notice_id] = str(json.loads(body)["institution_id"])
    rows = connection.execute(select(outbox.c.target, outbox.c.subject_id, outbox.c.last_error)).all()
    kept = {row.subject_id for row in rows if row.target == NOTICES}
    lost = [
        Untold(NOTICES, each, "it is in no outbox")
        for each in connection.scalars(select(NoticeRow.notice_id))
        if each not in kept
    ]
    found = [Untold(*row) for row in rows] + lost
    # what is about nothing that is there is everybody's business
    return [
        each
        for each in found
        if not institution_id or about.get(each.subject_id, institution_id) == institution_id
    ]


def taken_notices(connection: Connection, institution_id: str) -> list[TakenNotice]:
    """Return the notices that alert_service took for an institution; for all where none is named."""
    query = select(notices.c.notice_id, mails.c.state, notices.c.secret.is_not(None)).outerjoin_from(
        notices, mails, mails.c.notice_id == notices.c.notice_id
    )
    if institution_id:
        query = query.where(notices.c.institution_id == institution_id)
    return [TakenNotice(*row) for row in connection.execute(query)]
