"""What people ask of the archive: one record, one day. Every statement names the institution it answers for."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, tuple_

from common.contracts.institutions import Institution
from common.tenancy import of_tenant
from log_service.archive.schemas import ArchiveObject, ObjectState
from log_service.archive.tables import bodies, objects, records


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Where an archived record lies."""

    key: str
    content_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """One record: its body while it is spooled, or else the object it is in."""

    record_id: str
    kind: str
    sequence: int
    sha256: str
    body: bytes | None
    stored_in: StoredObject | None


@dataclass(frozen=True, slots=True)
class After:
    """The last record of a page; the next page begins behind it."""

    kind: str = ""
    sequence: int = 0
    record_id: str = ""


def find_record(connection: Connection, institution: Institution, record_id: str) -> FoundRecord | None:
    """Return the institution's record `record_id`."""
    query = _found().where(records.c.record_id == record_id, _in_mode(institution))
    row = connection.execute(of_tenant(institution.institution_id, query)).one_or_none()
    return None if row is None else _record(row)


def records_of_day(
    connection: Connection, institution: Institution, day: str, *, after: After, limit: int
) -> list[FoundRecord]:
    """Return the next records of a day in order of kind and sequence."""
    place = tuple_(records.c.kind, records.c.sequence, records.c.record_id)
    query = (
        _found()
        .where(
            _in_mode(institution),
            records.c.day == day,
            place > tuple_(after.kind, after.sequence, after.record_id),
        )
        .order_by(records.c.kind, records.c.sequence, records.c.record_id)
        .limit(limit)
    )
    return [_record(row) for row in connection.execute(of_tenant(institution.institution_id, query))]


def objects_of_day(
    connection: Connection, institution: Institution, day: str, *, after: int, limit: int
) -> list[ArchiveObject]:
    """Return a day's objects with numbers above `after`, by number."""
    query = (
        select(
            objects.c.key,
            objects.c.number,
            objects.c.kind,
            objects.c.record_count,
            objects.c.first_sequence,
            objects.c.last_sequence,
            objects.c.sha256,
            objects.c.state,
        )
        .where(
            objects.c.institution_mode == institution.mode.value,
            objects.c.day == day,
            objects.c.number > after,
        )
        .order_by(objects.c.number)
        .limit(limit)
    )
    rows = connection.execute(of_tenant(institution.institution_id, query))
    return [ArchiveObject.model_validate(row, from_attributes=True) for row in rows]


def count_of_day(connection: Connection, institution: Institution, day: str) -> tuple[int, int]:
    """Return how many records a day has, and how many of them are archived."""
    count = select(func.count()).select_from(records).where(_in_mode(institution), records.c.day == day)
    total = connection.scalar(of_tenant(institution.institution_id, count))
    stored = select(func.coalesce(func.sum(objects.c.record_count), 0)).where(
        objects.c.institution_mode == institution.mode.value,
        objects.c.day == day,
        objects.c.state == ObjectState.STORED.value,
    )
    archived = connection.scalar(of_tenant(institution.institution_id, stored))
    return int(total or 0), int(archived or 0)


def _found() -> Select[tuple[object, ...]]:
    stored = objects.c.state == ObjectState.STORED.value
    return (
        select(
            records.c.record_id,
            records.c.kind,
            records.c.sequence,
            records.c.sha256,
            bodies.c.body,
            objects.c.key,
            objects.c.content_bytes,
            objects.c.sha256.label("object_sha256"),
        )
        .outerjoin(bodies, bodies.c.record_id == records.c.record_id)
        .outerjoin(objects, and_(objects.c.object_id == records.c.object_id, stored))
    )


def _in_mode(institution: Institution) -> ColumnElement[bool]:
    return records.c.institution_mode == institution.mode.value


def _record(row: Row[tuple[object, ...]]) -> FoundRecord:
    stored_in = None if row.key is None else StoredObject(row.key, row.content_bytes, row.object_sha256)
    return FoundRecord(row.record_id, row.kind, row.sequence, row.sha256, row.body, stored_in)
