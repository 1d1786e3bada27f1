"""What a record must be to be accepted, and the form it is kept in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from common.canonical import sha256_hex
from common.contracts.audit_records import AuditRecord
from common.errors import PlatformError

MAX_RECORD_BYTES = 262_144
MAX_SEQUENCE = 2**63 - 1


class InvalidRecordError(PlatformError):
    """A record's body is not what its digest was made of, says other things than its envelope, or is not one line."""

    status_code = 422
    type = "invalid-record"
    title = "A record cannot be archived as it is"


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
    try:
        content = orjson.loads(body)
        institution, decision = content["institution"], content["decision"]
        return (
            content["kind"] == record.kind.value
            and institution["institution_id"] == record.institution_id
            and institution["mode"] == record.institution_mode.value
            and decision["decision_id"] == record.record_id
            and type(decision["decision_sequence"]) is int
            and decision["decision_sequence"] == record.sequence
            and datetime.fromisoformat(decision["created_at"]) == record.created_at
        )
    except (ValueError, TypeError, LookupError):
        return False


def _utc_day(moment: datetime, place: int) -> str:
    try:
        return moment.astimezone(UTC).date().isoformat()
    except OverflowError:
        raise InvalidRecordError(f"The time of record {place} is out of range.") from None
