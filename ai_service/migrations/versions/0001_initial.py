"""Decisions, idempotency keys, sequences and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.String(64), primary_key=True),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("decision_sequence", sa.BigInteger, nullable=False),
        sa.Column("observed_sequence", sa.BigInteger, nullable=False),
        sa.Column("transaction_id", sa.String(64), nullable=False),
        sa.Column("customer_id", sa.String(64), nullable=False),
        sa.Column("event_time_ms", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("policy_outcome", sa.String(16), nullable=False),
        sa.Column("risk_level", sa.String(16), nullable=False),
        sa.Column("flagged", sa.Boolean, nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "decisions_by_sequence", "decisions", ["institution_id", "decision_sequence"], unique=True
    )
    op.create_index(
        "decisions_by_customer", "decisions", ["institution_id", "customer_id", "decision_sequence"]
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("institution_id", sa.String(64), primary_key=True),
        sa.Column("transaction_id", sa.String(64), primary_key=True),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
    )
    op.create_table(
        "decision_sequences",
        sa.Column("institution_id", sa.String(64), primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("target", sa.String(32), primary_key=True),
        sa.Column("subject_id", sa.String(64), primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_error", sa.String(200)),
    )
    op.create_index("outbox_due", "outbox", ["target", "due_at"])


def downgrade() -> None:
    for table in ("outbox", "decision_sequences", "idempotency_keys", "decisions"):
        op.drop_table(table)
