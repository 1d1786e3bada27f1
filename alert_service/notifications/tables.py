"""Mails, each of alerts or of one notice: to whom it goes, and what became of it."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from alert_service.tables import metadata
from common.tenancy import belongs_through

mails = Table(
    "mails",
    metadata,
    Column("mail_id", String(64), primary_key=True),
    Column("institution_id", String(64), nullable=False),
    Column("message_id", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),
    Column(
        "leased_until_ms", BigInteger, nullable=False
    ),  # while it is being sent; later than now = hands off
    Column("created_at_ms", BigInteger, nullable=False),
    Column("delivered_at_ms", BigInteger),  # when somebody first got it
    Column("last_error", String(200)),
    Column("notice_id", String(64), ForeignKey("notices.notice_id")),  # null: it tells alerts
    Index("mails_due", "state", "due_at_ms"),
    Index("mails_of_notices", "notice_id", unique=True),
)

mail_recipients = Table(
    "mail_recipients",
    metadata,
    Column("mail_id", String(64), ForeignKey("mails.mail_id"), primary_key=True),
    Column("email", String(254), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("last_error", String(200)),
    info=belongs_through("mail_id", to="mails.mail_id"),
)

recipients = Table(
    "recipients",
    metadata,
    Column("institution_id", String(64), primary_key=True),
    Column("institution_name", String(256), nullable=False),
    Column("emails", Text, nullable=False),  # a JSON list
    Column("fetched_at_ms", BigInteger, nullable=False),
)
