"""Notices, as they were accepted; each has a mail of its own."""

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table

from alert_service.tables import metadata

notices = Table(
    "notices",
    metadata,
    Column("notice_id", String(64), primary_key=True),
    Column("institution_id", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("accepted_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    # of all that was sent; it tells a repeat from another notice, and nothing of a token of 256 bits
    Column("sha256", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),  # the Notice as JSON, without its secret
    Column("secret", String(256)),  # only until its mail is out, or no longer tried
)
