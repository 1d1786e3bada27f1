"""Notices, and which mail tells which."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("notice_id", sa.String(64), primary_key=True),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("accepted_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("secret", sa.String(256)),
    )
    # written out: Alembic adds a reference to a table of SQLite only by copying the table
    op.execute("ALTER TABLE mails ADD COLUMN notice_id VARCHAR(64) REFERENCES notices (notice_id)")
    op.create_index("mails_of_notices", "mails", ["notice_id"], unique=True)


def downgrade() -> None:
    op.drop_index("mails_of_notices", "mails")
    op.drop_column("mails", "notice_id")
    op.drop_table("notices")
