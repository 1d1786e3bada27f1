"""What services tell log_service so that it is archived and can be proved later."""

from enum import StrEnum

from pydantic import Field

from common.contracts.fields import Contract, Identifier, Timestamp
from common.contracts.institutions import InstitutionMode

MAX_RECORDS = 512


class RecordKind(StrEnum):
    """What sort of thing a record holds."""

    DECISION = "decision"
    IDENTITY = "identity"  # what changed about institutions, people and keys


class AuditRecord(Contract):
    """One record. `body` is its canonical JSON, archived byte for byte; `sha256` is the digest of its UTF-8 bytes.

    `record_id` is stable (a decision's is its `decision_id`); `sequence` is the gap-free number of the record
    within its institution and kind.
    """

    record_id: Identifier
    kind: RecordKind
    institution_id: Identifier
    institution_mode: InstitutionMode
    sequence: int = Field(ge=1)
    created_at: Timestamp
    request_id: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    body: str


class AuditBatch(Contract):
    """Records that are handed over together."""

    records: tuple[AuditRecord, ...] = Field(min_length=1, max_length=MAX_RECORDS)


class RecordsAccepted(Contract):
    """How many records of a batch were new and how many had been accepted before; all of them are durable."""

    accepted: int
    repeated: int
