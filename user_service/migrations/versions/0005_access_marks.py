"""The marks of access changes outlive the changes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_marks",
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("mark", sa.String(32), nullable=False),
    )
    op.execute("INSERT INTO access_marks (version, mark) SELECT version, mark FROM access_changes")


def downgrade() -> None:
    op.drop_table("access_marks")
