"""The tables of the scoring path."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

from common.outbox import outbox_table

metadata = MetaData()

# On PostgreSQL it has a partition for each month (see ai_service.scoring.partitions), and what is unique there holds the
# month: its key is as declared here, and decisions_by_sequence is no unique index. Two decisions of one transaction, or
# of one number, are prevented by the row of its key and the locked row of the sequence. In SQLite the id alone is the key.
decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    Column("institution_id", String(64), nullable=False),
    Column("decision_sequence", BigInteger, nullable=False),
    Column("observed_sequence", BigInteger),  # NULL until the velocity store has counted it
    Column("transaction_id", String(64), nullable=False),
    Column("customer_id", String(64), nullable=False),
    Column("event_time_ms", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("policy_outcome", String(16), nullable=False),
    Column("risk_level", String(16), nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("schema_version", Integer, nullable=False),
    # the canonical bytes: made once, hashed, archived and proved as they are
    Column("record", LargeBinary, nullable=False),
    Index("decisions_by_sequence", "institution_id", "decision_sequence", unique=True),
    Index("decisions_by_customer", "institution_id", "customer_id", "decision_sequence"),
    Index(
        "decisions_not_observed",
        "institution_id",
        "decision_sequence",
        sqlite_where=text("observed_sequence IS NULL"),
        postgresql_where=text("observed_sequence IS NULL"),
    ),
    Index("decisions_by_observed", "institution_id", "observed_sequence", "decision_id"),
    postgresql_partition_by="RANGE (created_at_ms)",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("institution_id", String(64), primary_key=True),
    Column("transaction_id", String(64), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("created_at_ms", BigInteger),  # of the decision; NULL where a process of an older release wrote it
)

decision_sequences = Table(
    "decision_sequences",
    metadata,
    Column("institution_id", String(64), primary_key=True),
    Column("last", BigInteger, nullable=False),
)

outbox = outbox_table(metadata)
