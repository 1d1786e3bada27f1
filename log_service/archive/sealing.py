"""When waiting records become an object, and how many of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from common.contracts.audit_records import RecordKind
from common.contracts.institutions import InstitutionMode

MAX_WAITING_OBJECTS = 256
MAX_OBJECT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Group:
    """Records that may share an object: one institution, one UTC day, one kind."""

    mode: InstitutionMode
    institution_id: str
    day: str
    kind: RecordKind


@dataclass(frozen=True, slots=True)
class WaitingGroup:
    """A group and how many of its records are in no object yet."""

    group: Group
    records: int


@dataclass(frozen=True, slots=True)
class WaitingRecord:
    """A record that is in no object yet."""

    record_id: str
    sequence: int
    body: bytes


def least_records(*, full: int, interval_passed: bool, waiting_objects: int) -> int:
    """Return how many records a group needs to become an object now.

    Once an interval any number will do. While the archive cannot keep up, small objects would only make the queue
    longer, so groups wait until they are full.
    """
    if interval_passed and waiting_objects < MAX_WAITING_OBJECTS:
        return 1
    return full


def due(groups: Sequence[WaitingGroup], *, least: int) -> list[WaitingGroup]:
    """Return the groups with at least `least` waiting records."""
    return [waiting for waiting in groups if waiting.records >= least]


def fitting(
    records: Iterable[WaitingRecord], *, max_bytes: int = MAX_OBJECT_BYTES
) -> Iterator[WaitingRecord]:
    """Yield leading `records` as long as their bodies together fit into `max_bytes`, and always the first."""
    taken = 0
    for record in records:
        taken += len(record.body)
        if taken > max_bytes and taken != len(record.body):
            return
        yield record
