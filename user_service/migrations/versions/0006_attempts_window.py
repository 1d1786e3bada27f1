"""For how long failed attempts count: wrong codes for longer than wrong passwords."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("window_ms", sa.BigInteger, nullable=False, server_default="1800000"))


def downgrade() -> None:
    op.drop_column("attempts", "window_ms")
