"""What log_service answers about the archive."""

from datetime import date
from enum import StrEnum

from common.contracts.audit_records import RecordKind
from common.contracts.fields import Contract
from common.contracts.institutions import InstitutionMode


class RecordState(StrEnum):
    """Where a record is: durable in this service's spool, or in an object of the archive."""

    SPOOLED = "spooled"
    ARCHIVED = "archived"


class ObjectState(StrEnum):
    """What became of an object.

    `sealed`: its content is decided, it is on its way. `stored`: it is in the archive. `conflict`: something else was
    found under its key; that was left as it is, and the records went into a later object. `damaged`: the spool no longer
    holds what was sealed, so nothing was stored; an operator has to look.
    """

    SEALED = "sealed"
    STORED = "stored"
    CONFLICT = "conflict"
    DAMAGED = "damaged"


class ArchiveObject(Contract):
    """One object of the archive; `sha256` is of its uncompressed content."""

    key: str
    number: int
    kind: RecordKind
    record_count: int
    first_sequence: int
    last_sequence: int
    sha256: str
    state: ObjectState


class DayTotals(Contract):
    """All records of a day: those in stored objects, and those still in the spool."""

    records: int
    archived: int
    spooled: int


class ArchivedDay(Contract):
    """One UTC day of an institution: totals, and a page of its objects; `next_cursor` is null on the last page."""

    institution_id: str
    institution_mode: InstitutionMode
    day: date
    totals: DayTotals
    items: tuple[ArchiveObject, ...]
    next_cursor: str | None
