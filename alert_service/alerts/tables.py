"""Alerts, as they were accepted."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from alert_service.tables import metadata

alerts = Table(
    "alerts",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("alert_id", String(64), nullable=False, unique=True),
    Column("institution_id", String(64), nullable=False),
    Column("institution_mode", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("policy_outcome", String(16), nullable=False),
    Column("accepted_at_ms", BigInteger, nullable=False),
    Column("mail_id", String(64), ForeignKey("mails.mail_id")),
    Column("body", LargeBinary, nullable=False),  # the AlertRequest as JSON
    Index("alerts_by_institution", "institution_id", "number"),
    Index("alerts_by_mail", "mail_id"),
)
Index(
    "alerts_without_mail",
    alerts.c.institution_id,
    alerts.c.accepted_at_ms,
    sqlite_where=alerts.c.mail_id.is_(None),
    postgresql_where=alerts.c.mail_id.is_(None),
)
