"""Records, their bodies, objects and object numbers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

GROUP = ["institution_mode", "institution_id", "day", "kind", "sequence", "record_id"]


def upgrade() -> None:
    _create_records()
    _create_objects()
    op.create_table(
        "object_numbers",
        sa.Column("institution_mode", sa.String(8), primary_key=True),
        sa.Column("institution_id", sa.String(64), primary_key=True),
        sa.Column("last_number", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("object_numbers", "archive_objects", "spooled_bodies", "audit_records"):
        op.drop_table(table)


def _create_records() -> None:
    op.create_table(
        "audit_records",
        sa.Column("record_id", sa.String(64), primary_key=True),
        sa.Column("institution_mode", sa.String(8), nullable=False),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("object_id", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index("audit_records_of_day", "audit_records", GROUP)
    _partial_index("audit_records_waiting", "audit_records", GROUP, sa.text("object_id IS NULL"))
    _partial_index(
        "audit_records_by_object", "audit_records", ["object_id"], sa.text("object_id IS NOT NULL")
    )
    op.create_table(
        "spooled_bodies",
        sa.Column("record_id", sa.String(64), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def _create_objects() -> None:
    op.create_table(
        "archive_objects",
        sa.Column(
            "object_id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("key", sa.String(1024), nullable=False, unique=True),
        sa.Column("institution_mode", sa.String(8), nullable=False),
        sa.Column("institution_id", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("record_count", sa.Integer, nullable=False),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("content_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.String(200)),
        sa.Column("sealed_at", sa.BigInteger, nullable=False),
        sa.Column("stored_at", sa.BigInteger),
        sa.Column("has_bodies", sa.Boolean, nullable=False),
    )
    op.create_index(
        "archive_objects_of_day", "archive_objects", ["institution_mode", "institution_id", "day", "number"]
    )
    _partial_index(
        "archive_objects_sealed", "archive_objects", ["attempts", "object_id"], sa.text("state = 'sealed'")
    )
    _partial_index(
        "archive_objects_to_clear",
        "archive_objects",
        ["object_id"],
        sa.text("state = 'stored' AND has_bodies"),
    )


def _partial_index(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
