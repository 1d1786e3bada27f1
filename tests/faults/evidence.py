"""Collects what is really there: rows, archived lines, mails, and what still waits anywhere."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import orjson
from botocore.config import Config
from botocore.session import Session as BotocoreSession
from sqlalchemy import Connection, Engine, Select, create_engine, func, make_url, select

from ai_service.scoring.tables import decisions, idempotency_keys, outbox
from alert_service.alerts.tables import alerts
from alert_service.notifications.tables import mails
from local_stack.tally import alert_ids_in
from log_service.archive.tables import bodies

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the decisions, with its idempotency key."""

    decision_id: str
    institution_id: str
    transaction_id: str
    sequence: int
    flagged: bool
    body_sha256: str
    key_decision_id: str | None
    record: bytes

    @property
    def alert_id(self) -> str:
        """Return the id of the alert that a flagged decision raises."""
        return "alr_" + self.decision_id.removeprefix("dec_")


@dataclass(frozen=True, slots=True)
class ArchivedLine:
    """One line of one object."""

    key: str
    decision_id: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that was taken, as its envelope and its text have it."""

    mail_id: str
    recipients: tuple[str, ...]
    message_id: str
    alert_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pending:
    """Something that still waits, and where."""

    place: str
    subject_id: str
    reason: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything that was found; None where nobody looked.

    `decision_ids` are those of all institutions; the rest is of those in scope.
    """

    decisions: list[Decision] = field(default_factory=list)
    decision_ids: frozenset[str] = frozenset()
    archived: list[ArchivedLine] | None = None
    unreadable: list[str] = field(default_factory=list)
    mails: list[Mail] | None = None
    alert_ids: frozenset[str] = frozenset()
    muted: frozenset[str] = frozenset()
    pending: list[Pending] = field(default_factory=list)


@dataclass(frozen=True)
class Scope:
    """Whose things are looked at: one institution and the address its mails go to; empty means everybody's."""

    institution_id: str = ""
    email: str = ""


@dataclass(frozen=True)
class Sources:
    """Where to look; what is empty is not looked at."""

    database_url: str
    s3_endpoint_url: str = ""
    s3_bucket: str = ""
    s3_access_key_id: str = "local-stack"
    s3_secret_access_key: str = "local-stack"
    mailbox: Path | None = None
    alert_database_url: str = ""
    log_database_url: str = ""


def collect(sources: Sources, scope: Scope) -> Evidence:
    """Look everywhere once."""
    with _connected(sources.database_url) as connection:
        found_decisions = _decisions(connection, scope)
        decision_ids = frozenset(connection.scalars(select(decisions.c.decision_id)))
        pending = _outbox(connection, scope)
    alert_ids: frozenset[str] = frozenset()
    muted: frozenset[str] = frozenset()
    if sources.alert_database_url:
        with _connected(sources.alert_database_url) as connection:
            alert_ids, muted = _alerts(connection, scope)
            pending += _waiting_mails(connection, scope)
    if sources.log_database_url:
        with _connected(sources.log_database_url) as connection:
            pending += _spool(connection, {found.decision_id for found in found_decisions})
    archived, unreadable = _archive(sources, scope) if sources.s3_endpoint_url else (None, [])
    return Evidence(
        decisions=found_decisions,
        decision_ids=decision_ids,
        archived=archived,
        unreadable=unreadable,
        mails=_mails(sources.mailbox, scope) if sources.mailbox else None,
        alert_ids=alert_ids,
        muted=muted,
        pending=pending,
    )


def waiting(sources: Sources, scope: Scope) -> list[Pending]:
    """Return only what still waits somewhere; cheap enough to ask again and again."""
    with _connected(sources.database_url) as connection:
        pending = _outbox(connection, scope)
    if sources.alert_database_url:
        with _connected(sources.alert_database_url) as connection:
            pending += _waiting_mails(connection, scope)
    if sources.log_database_url:
        with _connected(sources.log_database_url) as connection:
            pending += _spool(connection, None)
    return pending


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """Connect for reading alone: checking must change nothing."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = quote(str(Path(parsed.database or "").absolute()))
        return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", connect_args={"timeout": 20})
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"), execution_options={"postgresql_readonly": True}
    )


def _decisions(connection: Connection, scope: Scope) -> list[Decision]:
    keys = idempotency_keys
    query = select(decisions, keys.c.body_sha256, keys.c.decision_id.label("key_decision_id")).outerjoin_from(
        decisions,
        keys,
        (keys.c.institution_id == decisions.c.institution_id)
        & (keys.c.transaction_id == decisions.c.transaction_id),
    )
    if scope.institution_id:
        query = query.where(decisions.c.institution_id == scope.institution_id)
    return [
        Decision(
            decision_id=row.decision_id,
            institution_id=row.institution_id,
            transaction_id=row.transaction_id,
            sequence=row.decision_sequence,
            flagged=bool(row.flagged),
            body_sha256=row.body_sha256 or "",
            key_decision_id=row.key_decision_id,
            record=bytes(row.record),
        )
        for row in connection.execute(query)
    ]


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
    query = select(alerts.c.alert_id, mails.c.state).outerjoin(mails, mails.c.mail_id == alerts.c.mail_id)
    if scope.institution_id:
        query = query.where(alerts.c.institution_id == scope.institution_id)
    found = connection.execute(query).all()
    return (
        frozenset(row.alert_id for row in found),
        frozenset(row.alert_id for row in found if row.state == "dead_letter"),
    )


def _waiting_mails(connection: Connection, scope: Scope) -> list[Pending]:
    unsent = select(mails.c.mail_id, mails.c.last_error).where(mails.c.state == "pending")
    unmade = select(alerts.c.alert_id).where(alerts.c.mail_id.is_(None))
    if scope.institution_id:
        unsent = unsent.where(mails.c.institution_id == scope.institution_id)
        unmade = unmade.where(alerts.c.institution_id == scope.institution_id)
    waiting_mails = [Pending("mail", row.mail_id, row.last_error) for row in connection.execute(unsent)]
    return waiting_mails + [
        Pending("alert without a mail", alert_id, None) for alert_id in connection.scalars(unmade)
    ]


def _spool(connection: Connection, decision_ids: set[str] | None) -> list[Pending]:
    if decision_ids is None:
        count = connection.scalar(select(func.count()).select_from(bodies)) or 0
        return [Pending("spool", f"{count} records", None)] if count else []
    spooled = connection.scalars(select(bodies.c.record_id))
    return [Pending("spool", record_id, None) for record_id in spooled if record_id in decision_ids]


def _archive(sources: Sources, scope: Scope) -> tuple[list[ArchivedLine], list[str]]:
    lines: list[ArchivedLine] = []
    unreadable: list[str] = []
    with closing(_s3(sources)) as client:
        for key, content in _objects(client, sources.s3_bucket, scope):
            try:
                lines += [
                    ArchivedLine(key, str(orjson.loads(line)["decision"]["decision_id"]), line)
                    for line in gzip.decompress(content).splitlines()
                ]
            except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError):
                unreadable.append(key)
    return lines, unreadable


def _objects(client: "S3Client", bucket: str, scope: Scope) -> Iterator[tuple[str, bytes]]:
    for mode in ("live", "sandbox"):
        prefix = f"audit/{mode}/" + (f"{scope.institution_id}/" if scope.institution_id else "")
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"], client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()


def _s3(sources: Sources) -> "S3Client":
    # a profile that a person chose for AWS would be looked for here too
    nobodys = BotocoreSession(session_vars={"profile": (None, None, None, None)})
    return boto3.session.Session(botocore_session=nobodys).client(
        "s3",
        endpoint_url=sources.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=sources.s3_access_key_id,
        aws_secret_access_key=sources.s3_secret_access_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def _mails(folder: Path, scope: Scope) -> list[Mail]:
    found = [_mail(path) for path in sorted(folder.glob("mail_*.eml"))]
    return [mail for mail in found if not scope.email or scope.email in mail.recipients]


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
    )
