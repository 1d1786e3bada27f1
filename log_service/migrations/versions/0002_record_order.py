"""Record ids are ordered by their bytes on PostgreSQL too."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("audit_records", "spooled_bodies")


def upgrade() -> None:
    _collate("C")


def downgrade() -> None:
    _collate("default")


def _collate(collation: str) -> None:
    if op.get_context().dialect.name != "postgresql":  # SQLite orders by bytes anyway
        return
    for table in TABLES:
        op.alter_column(table, "record_id", type_=sa.String(64, collation=collation))
