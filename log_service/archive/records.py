"""What a record must be to be accepted, and the form it is kept in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from common.canonical import sha256_hex
from common.contracts.audit_records import AuditRecord, RecordKind
from common.errors import PlatformError

MAX_RECORD_BYTES = 262_144
MAX_SEQUENCE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """Who writes a kind of record, and which part of its body, by which names, holds what it is filed by."""

    writer: str
    part: str
    record_id: str
    sequence: str


SHAPES: Mapping[RecordKind, Shape] = {
    RecordKind.DECISION: Shape("ai_service", "decision", "decision_id", "decision_sequence"),
    RecordKind.IDENTITY: Shape("user_service", "event", "event_id", "event_sequence"),
}


class InvalidRecordError(PlatformError):
    """A record's body is not what its digest was made of, says other things than its envelope, or is not one line."""

    status_code = 422
    type = "invalid-record"
    title = "A record cannot be archived as it is"


class NotItsRecordError(PlatformError):
    """A service handed over a record of a kind that another service writes."""

    status_code = 403
    type = "not-its-record"
    title = "Records of this kind are written by another service"


class RecordConflictError(PlatformError):
    """A record id came back with another body or envelope: tampering, or a bug of the sender."""

    status_code = 409
    type = "record-conflict"
    title = "Another record with this id was accepted before"

    def __init__(self, record_id: str) -> None:
        super().__init__()
        self.record_id = record_id


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One checked record as the rows it becomes."""

    record_id: str
    body: bytes
    row: dict[str, object]


def refuse_others_records(records: Sequence[AuditRecord], *, writer: str) -> None:
    """Raise `NotItsRecordError` when one of `records` is of a kind that another service than `writer` writes.

    So nobody who has the secret of one service can write the other's history.
    """
    if any(SHAPES[record.kind].writer != writer for record in records):
        raise NotItsRecordError


def checked(records: Sequence[AuditRecord]) -> list[SpoolRecord]:
    """Return `records` as they will be kept; raises `InvalidRecordError` at the first that cannot be."""
    return [_checked(place, record) for place, record in enumerate(records)]


def _checked(place: int, record: AuditRecord) -> SpoolRecord:
    body = record.body.encode()
    if sha256_hex(body) != record.sha256:
        raise InvalidRecordError(f"The body of record {place} does not have the digest it states.")
    if not body or b"\n" in body or len(body) > MAX_RECORD_BYTES:
        raise InvalidRecordError(f"The body of record {place} is not one line of at most 256 KiB.")
    if record.sequence > MAX_SEQUENCE:
        raise InvalidRecordError(f"The sequence of record {place} is too large.")
    if not _is_said_by(body, record):
        raise InvalidRecordError(f"The body of record {place} does not say what its envelope says.")
    row: dict[str, object] = {
        "record_id": record.record_id,
        "institution_mode": record.institution_mode.value,
        "institution_id": record.institution_id,
        "day": _utc_day(record.created_at, place),
        "kind": record.kind.value,
        "sequence": record.sequence,
        "sha256": record.sha256,
    }
    return SpoolRecord(record.record_id, body, row)


def _is_said_by(body: bytes, record: AuditRecord) -> bool:
    """Whether the hashed bytes hold what the record is filed and found by; only they can be proved later."""
    shape = SHAPES[record.kind]
    try:
        content = orjson.loads(body)
        institution, part = content["institution"], content[shape.part]
        return (
            content["kind"] == record.kind.value
            and institution["institution_id"] == record.institution_id
            and institution["mode"] == record.institution_mode.value
            and part[shape.record_id] == record.record_id
            and type(part[shape.sequence]) is int
            and part[shape.sequence] == record.sequence
            and datetime.fromisoformat(part["created_at"]) == record.created_at
        )
    except (ValueError, TypeError, LookupError):
        return False


def _utc_day(moment: datetime, place: int) -> str:
    try:
        return moment.astimezone(UTC).date().isoformat()
    except OverflowError:
        raise InvalidRecordError(f"The time of record {place} is out of range.") from None
