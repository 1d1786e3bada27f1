"""Alerts, mails, their recipients, and the last known recipients of each institution."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mails",
        sa.Column("mail_id", sa.String(64), primary_key=True),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("message_id", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
        sa.Column("leased_until_ms", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("delivered_at_ms", sa.BigInteger),
        sa.Column("last_error", sa.String(200)),
    )
    op.create_index("mails_due", "mails", ["state", "due_at_ms"])
    op.create_table(
        "mail_recipients",
        sa.Column("mail_id", sa.String(64), sa.ForeignKey("mails.mail_id"), primary_key=True),
        sa.Column("email", sa.String(254), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("last_error", sa.String(200)),
    )
    op.create_table(
        "recipients",
        sa.Column("institution_id", sa.String(64), primary_key=True),
        sa.Column("institution_name", sa.String(256), nullable=False),
        sa.Column("emails", sa.Text, nullable=False),
        sa.Column("fetched_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "alerts",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("alert_id", sa.String(64), nullable=False, unique=True),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("institution_mode", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("policy_outcome", sa.String(16), nullable=False),
        sa.Column("accepted_at_ms", sa.BigInteger, nullable=False),
        sa.Column("mail_id", sa.String(64), sa.ForeignKey("mails.mail_id")),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("alerts_by_institution", "alerts", ["institution_id", "number"])
    op.create_index("alerts_by_mail", "alerts", ["mail_id"])
    op.create_index(
        "alerts_without_mail",
        "alerts",
        ["institution_id", "accepted_at_ms"],
        sqlite_where=sa.text("mail_id IS NULL"),
        postgresql_where=sa.text("mail_id IS NULL"),
    )


def downgrade() -> None:
    for table in ("alerts", "recipients", "mail_recipients", "mails"):
        op.drop_table(table)
