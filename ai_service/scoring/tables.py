"""The tables of the scoring path."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table

from common.outbox import outbox_table

metadata = MetaData()

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    Column("institution_id", String(64), nullable=False),
    Column("decision_sequence", BigInteger, nullable=False),
    Column("observed_sequence", BigInteger, nullable=False),
    Column("transaction_id", String(64), nullable=False),
    Column("customer_id", String(64), nullable=False),
    Column("event_time_ms", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("policy_outcome", String(16), nullable=False),
    Column("risk_level", String(16), nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("schema_version", Integer, nullable=False),
    # the canonical bytes: made once, hashed, archived and proved as they are
    Column("record", LargeBinary, nullable=False),
    Index("decisions_by_sequence", "institution_id", "decision_sequence", unique=True),
    Index("decisions_by_customer", "institution_id", "customer_id", "decision_sequence"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("institution_id", String(64), primary_key=True),
    Column("transaction_id", String(64), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("decision_id", String(64), nullable=False),
)

decision_sequences = Table(
    "decision_sequences",
    metadata,
    Column("institution_id", String(64), primary_key=True),
    Column("last", BigInteger, nullable=False),
)

outbox = outbox_table(metadata)
