"""Tiers, second factors, registrations, API keys, the access feed, audit events, notices and approvals."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _widen_institutions_and_users()
    _let_invitations_reserve_nothing()
    _widen_sessions_and_signing_keys()
    _add_credentials()
    _add_feeds()
    op.create_table(
        "approvals",
        sa.Column("approval_id", sa.String(64), primary_key=True),
        _institution_id(),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("decided_at_ms", sa.BigInteger),
        sa.Column("self_approved", sa.Boolean, nullable=False),
    )
    op.create_index("ix_approvals_institution_id", "approvals", ["institution_id"])


def _widen_institutions_and_users() -> None:
    op.add_column("institutions", sa.Column("tier", sa.String(16), nullable=False, server_default="starter"))
    op.add_column(
        "institutions",
        sa.Column("over_quota", sa.String(16), nullable=False, server_default="allow_and_warn"),
    )
    op.add_column("institutions", sa.Column("suspended_at_ms", sa.BigInteger))
    op.add_column("users", sa.Column("led_until_ms", sa.BigInteger))
    op.add_column("users", sa.Column("invited_by", sa.String(64)))
    op.add_column("users", sa.Column("totp_secret", sa.String(256)))
    op.add_column("users", sa.Column("totp_confirmed_at_ms", sa.BigInteger))
    op.add_column("users", sa.Column("totp_last_step", sa.BigInteger))


def _let_invitations_reserve_nothing() -> None:
    """Let the column that is unique on the whole platform be what people log in with; everybody so far has joined.

    It is renamed because SQLite cannot drop its constraint without making the table, and what refers to it, anew.
    """
    op.execute("ALTER TABLE users RENAME COLUMN email_key TO login_key")
    op.add_column("users", sa.Column("email_key", sa.String(320), nullable=False, server_default=""))
    op.execute("UPDATE users SET email_key = login_key")
    op.create_index("ix_users_address", "users", ["institution_id", "email_key"], unique=True)


def _widen_sessions_and_signing_keys() -> None:
    for name in ("last_used_at_ms", "access_expires_at_ms"):
        op.add_column("sessions", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("sessions", sa.Column("ip_address", sa.String(45), nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("user_agent", sa.String(256), nullable=False, server_default=""))
    op.add_column(
        "signing_keys", sa.Column("signs_from_ms", sa.BigInteger, nullable=False, server_default="0")
    )


def _add_credentials() -> None:
    op.create_table(
        "mailed_tokens",
        sa.Column("token_id", sa.String(64), primary_key=True),
        _user_id(),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("used_at_ms", sa.BigInteger),
    )
    op.create_index("ix_mailed_tokens_user_id", "mailed_tokens", ["user_id"])
    op.create_table(
        "recovery_codes",
        sa.Column("digest", sa.String(64), primary_key=True),
        _user_id(),
        sa.Column("used_at_ms", sa.BigInteger),
    )
    op.create_index("ix_recovery_codes_user_id", "recovery_codes", ["user_id"])
    _add_attempts()
    op.create_table(
        "registrations",
        sa.Column("registration_id", sa.String(64), primary_key=True),
        sa.Column("institution_name", sa.String(256), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("base_currency", sa.String(3), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("email_key", sa.String(320), nullable=False),
        sa.Column("full_name", sa.String(256), nullable=False),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    for column in ("email_key", "expires_at_ms"):
        op.create_index(f"ix_registrations_{column}", "registrations", [column])
    op.create_table(
        "account_tasks",
        sa.Column("task_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.user_id", ondelete="CASCADE")),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column(
            "registration_id",
            sa.String(64),
            sa.ForeignKey("registrations.registration_id", ondelete="CASCADE"),
        ),
        sa.Column("asked_at_ms", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(64), primary_key=True),
        _institution_id(),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger),
        sa.Column("revoked_at_ms", sa.BigInteger),
        sa.Column("last_used_at_ms", sa.BigInteger),
        sa.Column("replaced_by", sa.String(64)),
    )
    op.create_index("ix_api_keys_institution_id", "api_keys", ["institution_id"])


def _add_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("account", sa.String(64)),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("first_at_ms", sa.BigInteger, nullable=False),
        sa.Column("locked_until_ms", sa.BigInteger, nullable=False),
        sa.Column("paced_until_ms", sa.BigInteger, nullable=False),
        sa.Column("waits_until_ms", sa.BigInteger, nullable=False),
        sa.Column("on_account", sa.Integer, nullable=False),
        sa.Column("on_account_since_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "known_addresses",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger, nullable=False),
    )
    for table, column in (
        ("attempts", "account"),
        ("attempts", "first_at_ms"),
        ("known_addresses", "account"),
        ("known_addresses", "seen_at_ms"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column])


def _add_feeds() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "access_changes",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("subject_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False, unique=True),
        sa.Column("mark", sa.String(32), nullable=False),
    )
    _put_institutions_into_the_feed()
    op.create_table(
        "identity_events",
        sa.Column("event_id", sa.String(64), primary_key=True),
        _institution_id(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("institution_id", "sequence"),
    )
    op.create_table(
        "notices",
        sa.Column("notice_id", sa.String(64), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("token_id", sa.String(64)),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "mail_counts",
        sa.Column("purpose", sa.String(32), primary_key=True),
        sa.Column("whom", sa.String(320), primary_key=True),
        sa.Column("mails", sa.Integer, nullable=False),
        sa.Column("first_at_ms", sa.BigInteger, nullable=False),
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


def _put_institutions_into_the_feed() -> None:
    """Tell of those that were registered before, so that their allowance is known."""
    known = op.get_bind().execute(sa.text("SELECT institution_id FROM institutions ORDER BY institution_id"))
    for version, (institution_id,) in enumerate(known.all(), start=1):
        op.get_bind().execute(
            sa.text("INSERT INTO access_changes VALUES ('institution', :subject_id, :version, :mark)"),
            {"subject_id": institution_id, "version": version, "mark": secrets.token_hex(8)},
        )
    op.execute("INSERT INTO counters (name, last) SELECT 'access', count(*) FROM access_changes")


def _institution_id() -> sa.Column[str]:
    return sa.Column(
        "institution_id", sa.String(64), sa.ForeignKey("institutions.institution_id"), nullable=False
    )


def _user_id() -> sa.Column[str]:
    return sa.Column(
        "user_id", sa.String(64), sa.ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False
    )
