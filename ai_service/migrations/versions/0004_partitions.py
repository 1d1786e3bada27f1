"""On PostgreSQL decisions are partitioned by month; a key says when its decision was made; rebuilds have an index.

Processes of the release before may run beside this: they name the columns they write, and `created_at_ms` of a key may
be missing. They wait while the rows are moved.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from common.postgres.partitions import Month, create_partition

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLD = "decisions_of_0003"
NOT_COUNTED = sa.text("observed_sequence IS NULL")


def upgrade() -> None:
    op.add_column("idempotency_keys", sa.Column("created_at_ms", sa.BigInteger))
    if op.get_bind().dialect.name == "postgresql":
        _replace(partitioned=True)
    op.create_index(
        "decisions_by_observed", "decisions", ["institution_id", "observed_sequence", "decision_id"]
    )


def downgrade() -> None:
    op.drop_index("decisions_by_observed", "decisions")
    if op.get_bind().dialect.name == "postgresql":
        _replace(partitioned=False)
    op.drop_column("idempotency_keys", "created_at_ms")


def _replace(*, partitioned: bool) -> None:
    """Put the rows of `decisions` into a new table of that name."""
    op.execute("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE")
    for index in ("decisions_by_sequence", "decisions_by_customer", "decisions_not_observed"):
        op.drop_index(index, "decisions")
    op.execute("ALTER INDEX IF EXISTS decisions_pkey RENAME TO decisions_of_0003_pkey")
    op.rename_table("decisions", OLD)
    old = sa.Table(OLD, sa.MetaData(), *_columns())
    new = _create(partitioned=partitioned)
    if partitioned:
        for month in [None, *_months(old)]:
            create_partition(op.get_bind(), "decisions", month)
    names = [column.name for column in old.c]
    op.get_bind().execute(sa.insert(new).from_select(names, sa.select(old)))
    op.drop_table(OLD)
    # after the rows: one pass over them for each index
    op.create_index(
        "decisions_by_sequence", "decisions", ["institution_id", "decision_sequence"], unique=not partitioned
    )
    op.create_index(
        "decisions_by_customer", "decisions", ["institution_id", "customer_id", "decision_sequence"]
    )
    op.create_index(
        "decisions_not_observed",
        "decisions",
        ["institution_id", "decision_sequence"],
        postgresql_where=NOT_COUNTED,
    )


def _create(*, partitioned: bool) -> sa.Table:
    key = ["decision_id", "created_at_ms"] if partitioned else ["decision_id"]
    return op.create_table(
        "decisions",
        *_columns(),
        sa.PrimaryKeyConstraint(*key, name="decisions_pkey"),
        postgresql_partition_by="RANGE (created_at_ms)" if partitioned else None,
    )


def _months(old: sa.Table) -> list[Month]:
    month = sa.func.date_trunc(
        "month", sa.func.timezone("UTC", sa.func.to_timestamp(old.c.created_at_ms / 1000))
    )
    found = op.get_bind().scalars(sa.select(month).distinct())
    return sorted(Month(each.year, each.month) for each in found)


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("decision_sequence", sa.BigInteger, nullable=False),
        sa.Column("observed_sequence", sa.BigInteger),
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
    ]
