"""The tables of the archive: what was accepted, what still waits with its body, and the objects made of it."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

from common.tenancy import belongs_through

metadata = MetaData()
# by its bytes, as SQLite does it: the order of an object's records must not depend on a server's language
_RECORD_ID = String(64).with_variant(String(64, collation="C"), "postgresql")
LOST = 0  # the object_id of a record whose body was gone before its object was decided; real ones begin at 1

records = Table(
    "audit_records",
    metadata,
    Column("record_id", _RECORD_ID, primary_key=True),
    Column("institution_mode", String(8), nullable=False),
    Column("institution_id", String(64), nullable=False),
    Column("day", String(10), nullable=False),  # the UTC day of created_at, 2026-11-02
    Column("kind", String(16), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("object_id", BigInteger),  # null until the record's object is decided
    sqlite_with_rowid=False,
)
_GROUP = ("institution_mode", "institution_id", "day", "kind", "sequence", "record_id")
Index("audit_records_of_day", *(records.c[name] for name in _GROUP))
Index(
    "audit_records_waiting",
    *(records.c[name] for name in _GROUP),
    sqlite_where=text("object_id IS NULL"),
    postgresql_where=text("object_id IS NULL"),
)
Index(
    "audit_records_by_object",
    records.c.object_id,
    sqlite_where=text("object_id IS NOT NULL"),
    postgresql_where=text("object_id IS NOT NULL"),
)

# A body is here from acceptance until its object is stored.
bodies = Table(
    "spooled_bodies",
    metadata,
    Column("record_id", _RECORD_ID, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    info=belongs_through("record_id", to="audit_records.record_id"),
)

objects = Table(
    "archive_objects",
    metadata,
    Column("object_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key", String(1024), nullable=False, unique=True),
    Column("institution_mode", String(8), nullable=False),
    Column("institution_id", String(64), nullable=False),
    Column("day", String(10), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("record_count", Integer, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("content_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),  # of the uncompressed content
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", String(200)),
    Column("sealed_at", BigInteger, nullable=False),  # milliseconds since 1970
    Column("stored_at", BigInteger),
    Column(
        "has_bodies", Boolean, nullable=False
    ),  # whether its records may still have rows in spooled_bodies
)
Index(
    "archive_objects_of_day",
    objects.c.institution_mode,
    objects.c.institution_id,
    objects.c.day,
    objects.c.number,
)
Index(
    "archive_objects_sealed",
    objects.c.attempts,
    objects.c.object_id,
    sqlite_where=text("state = 'sealed'"),
    postgresql_where=text("state = 'sealed'"),
)
Index(
    "archive_objects_to_clear",
    objects.c.object_id,
    sqlite_where=text("state = 'stored' AND has_bodies"),
    postgresql_where=text("state = 'stored' AND has_bodies"),
)

numbers = Table(
    "object_numbers",
    metadata,
    Column("institution_mode", String(8), primary_key=True),
    Column("institution_id", String(64), primary_key=True),
    Column("last_number", BigInteger, nullable=False),
)
