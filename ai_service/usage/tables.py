"""The tables of what institutions used, and of what they were warned."""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table

metadata = MetaData()

usage = Table(
    "usage",
    metadata,
    Column("institution_id", String(64), primary_key=True),
    Column("month", String(7), primary_key=True),  # YYYY-MM, UTC
    Column("decisions", BigInteger, nullable=False),
)

quota_warnings = Table(
    "quota_warnings",
    metadata,
    Column("warning_id", String(64), primary_key=True),
    Column("institution_id", String(64), nullable=False),
    Column("month", String(7), nullable=False),
    Column("threshold", Integer, nullable=False),
    # as they were then
    Column("decisions", BigInteger, nullable=False),
    Column("quota", BigInteger, nullable=False),
    Column("over_quota", String(16), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("quota_warnings_once", "institution_id", "month", "threshold", "quota", unique=True),
)
