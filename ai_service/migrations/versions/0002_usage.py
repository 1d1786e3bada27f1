"""What institutions used in a month, and of what they were warned. Decisions from before are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    usage = op.create_table(
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
    _count_decisions(usage)


def _count_decisions(usage: sa.Table) -> None:
    decisions = sa.table("decisions", sa.column("institution_id"), sa.column("created_at_ms", sa.BigInteger))
    seconds = decisions.c.created_at_ms // 1000
    if op.get_bind().dialect.name == "postgresql":
        month = sa.func.to_char(sa.func.timezone("UTC", sa.func.to_timestamp(seconds)), "YYYY-MM")
    else:
        month = sa.func.strftime("%Y-%m", seconds, "unixepoch")
    made = sa.select(decisions.c.institution_id, month.label("month")).subquery()
    counted = sa.select(made.c.institution_id, made.c.month, sa.func.count()).group_by(
        made.c.institution_id, made.c.month
    )
    op.execute(sa.insert(usage).from_select(["institution_id", "month", "decisions"], counted))


def downgrade() -> None:
    op.drop_table("quota_warnings")
    op.drop_table("usage")
