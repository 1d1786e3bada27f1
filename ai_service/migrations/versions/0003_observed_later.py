"""A decision may be made while the velocity store is away; it is counted, and numbered, later."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NOT_COUNTED = sa.text("observed_sequence IS NULL")


def upgrade() -> None:
    with op.batch_alter_table("decisions") as table:
        table.alter_column("observed_sequence", existing_type=sa.BigInteger, nullable=True)
    op.create_index(
        "decisions_not_observed",
        "decisions",
        ["institution_id", "decision_sequence"],
        sqlite_where=NOT_COUNTED,
        postgresql_where=NOT_COUNTED,
    )


def downgrade() -> None:
    op.drop_index("decisions_not_observed", "decisions")
    with op.batch_alter_table("decisions") as table:
        table.alter_column("observed_sequence", existing_type=sa.BigInteger, nullable=False)
