"""What institutions used in a month, and of what they were warned. Decisions from before are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MONTH = {
    "sqlite": "strftime('%Y-%m', created_at_ms / 1000, 'unixepoch')",
    "postgresql": "to_char(to_timestamp(created_at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM')",
}


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("institution_id", sa.String(64), primary_key=True),
        sa.Column("month", sa.String(7), primary_key=True),
        sa.Column("decisions", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "quota_warnings",
        sa.Column("warning_id", sa.String(64), primary_key=True),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("threshold", sa.Integer, nullable=False),
        sa.Column("decisions", sa.BigInteger, nullable=False),
        sa.Column("quota", sa.BigInteger, nullable=False),
        sa.Column("over_quota", sa.String(16), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "quota_warnings_once", "quota_warnings", ["institution_id", "month", "threshold"], unique=True
    )
    month = MONTH[op.get_bind().dialect.name]
    op.execute(
        "INSERT INTO usage (institution_id, month, decisions) "  # noqa: S608 - nothing of it comes from outside
        f"SELECT institution_id, {month}, count(*) FROM decisions GROUP BY institution_id, {month}"
    )


def downgrade() -> None:
    op.drop_table("quota_warnings")
    op.drop_table("usage")
