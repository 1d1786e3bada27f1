"""The statements of the archive. Each function runs in the transaction of the connection it is given.

This file is over the house limit: these statements share states and must be read side by side.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)

from common.bulk import BulkInsert, BulkSelect
from common.contracts.audit_records import RecordKind, RecordsAccepted
from common.contracts.institutions import InstitutionMode
from common.failpoints import failpoint
from common.tenancy import of_every_tenant, of_tenant
from log_service.archive.keys import object_key
from log_service.archive.records import RecordConflictError, SpoolRecord
from log_service.archive.schemas import ObjectState
from log_service.archive.sealing import Group, WaitingGroup, WaitingRecord, fitting
from log_service.archive.tables import LOST, bodies, numbers, objects, records

_ARCHIVER = "the archiver stores the records of all"
_ACCEPTING = "a batch of records is of many institutions; each is compared with its own envelope"
_MEASURED = "what waits is measured for all together"
# written out, not bound: only then every database sees that the index of sealed objects will do
_IS_SEALED = objects.c.state == literal(ObjectState.SEALED.value, literal_execute=True)

KEPT = tuple(column for column in records.c if column is not records.c.object_id)
"""What is compared when a record comes again."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Records with their body, and the bytes of the bodies."""

    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of each batch, and what was added to the spool for them."""

    results: list[RecordsAccepted | Exception]
    added: Amount


@dataclass(frozen=True, slots=True)
class Content:
    """What a new object will hold: its records in order, and the digest of its content."""

    group: Group
    record_ids: tuple[str, ...]
    first_sequence: int
    last_sequence: int
    content_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SealedObject:
    """An object whose content is decided and that is not in the archive yet."""

    object_id: int
    key: str
    record_count: int
    first_sequence: int
    last_sequence: int
    content_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The records that may share the next object, and those before their end that have no body any more."""

    records: tuple[WaitingRecord, ...]
    lost: tuple[str, ...]


class RecordsMovedError(Exception):
    """Some of the records went into another object in the meantime; nothing was changed."""


def _knowing(record_ids: Sequence[BindParameter[Any]]) -> Select[Any]:
    return of_every_tenant(select(*KEPT).where(records.c.record_id.in_(record_ids)), _ACCEPTING)


_find_records = BulkSelect(_knowing)
_add_records = BulkInsert(records)
_add_bodies = BulkInsert(bodies)


def warm_up(connection: Connection) -> None:
    """Make the statements over many rows now, so that nobody waits for them."""
    _find_records.warm_up(connection)
    _add_records.warm_up(connection)
    _add_bodies.warm_up(connection)


def accept(connection: Connection, batches: Sequence[Sequence[SpoolRecord]]) -> Accepted:
    """Keep what is new in each batch. A batch with a conflict is refused as a whole and gets its error."""
    known = _known(connection, [record.record_id for batch in batches for record in batch])
    fresh, accepted = sorted_out(batches, known)
    columns = [column.name for column in records.c]
    _add_records.run(connection, [tuple(map(record.row.get, columns)) for record in fresh])
    _add_bodies.run(connection, [(record.record_id, record.body) for record in fresh])
    failpoint("spool.before_commit")
    return accepted


def sorted_out(
    batches: Sequence[Sequence[SpoolRecord]], known: dict[str, Mapping[str, object]]
) -> tuple[list[SpoolRecord], Accepted]:
    """Return the records that are new, and what to answer once they are kept; `known` is taken over."""
    fresh: list[SpoolRecord] = []
    results: list[RecordsAccepted | Exception] = []
    for batch in batches:
        try:
            new = _new(batch, known)
        except RecordConflictError as error:
            results.append(error)
            continue
        known.update({record.record_id: record.row for record in new})
        fresh += new
        results.append(RecordsAccepted(accepted=len(new), repeated=len(batch) - len(new)))
    return fresh, Accepted(results, Amount(len(fresh), sum([len(record.body) for record in fresh])))


def _known(connection: Connection, record_ids: list[str]) -> dict[str, Mapping[str, object]]:
    """Return, by id, what is kept of the records that were accepted before: digest and envelope."""
    names = [column.name for column in KEPT]
    kept = (dict(zip(names, row, strict=True)) for row in _find_records.run(connection, record_ids))
    return {row["record_id"]: row for row in kept}


def _new(batch: Sequence[SpoolRecord], known: Mapping[str, Mapping[str, object]]) -> list[SpoolRecord]:
    new: dict[str, SpoolRecord] = {}
    for record in batch:
        before = known.get(record.record_id)
        if before is None:
            before = new.setdefault(record.record_id, record).row
        if before != record.row:
            raise RecordConflictError(record.record_id)
    return list(new.values())


def count_spooled(connection: Connection) -> Amount:
    """Return how many records wait with their body, and how long the bodies are together."""
    size = func.coalesce(func.sum(func.length(bodies.c.body)), 0)
    query = select(func.count(), size).select_from(bodies)
    records_, bytes_ = connection.execute(of_every_tenant(query, _MEASURED)).one()
    return Amount(records_, int(bytes_))


def count_sealed(connection: Connection) -> int:
    """Return how many objects wait to be stored."""
    query = select(func.count()).select_from(objects).where(_IS_SEALED)
    return connection.scalar(of_every_tenant(query, _MEASURED)) or 0


def waiting_groups(connection: Connection) -> list[WaitingGroup]:
    """Return the groups that have records in no object yet."""
    group = (
        records.c.institution_mode,
        records.c.institution_id,
        records.c.day,
        records.c.kind,
    )
    query = select(*group, func.count()).where(records.c.object_id.is_(None)).group_by(*group)
    rows = connection.execute(of_every_tenant(query, _ARCHIVER))
    return [
        WaitingGroup(Group(InstitutionMode(mode), institution_id, day, RecordKind(kind)), count)
        for mode, institution_id, day, kind, count in rows
    ]


def waiting_records(connection: Connection, group: Group, *, limit: int) -> Waiting:
    """Return the first waiting records of `group` that may share an object, in order of sequence."""
    query = (
        select(records.c.record_id, records.c.sequence, bodies.c.body)
        .outerjoin(bodies, bodies.c.record_id == records.c.record_id)
        .where(records.c.object_id.is_(None), _of_group(group))
        .order_by(records.c.sequence, records.c.record_id)
        .limit(limit)
    )
    rows = connection.execute(of_tenant(group.institution_id, query))
    lost: list[str] = []
    found = fitting(_with_body(rows, lost))
    return Waiting(tuple(found), tuple(lost))


def _with_body(rows: Iterable[Any], lost: list[str]) -> Iterator[WaitingRecord]:
    for row in rows:
        if row.body is None:
            lost.append(row.record_id)
        else:
            yield WaitingRecord(row.record_id, row.sequence, row.body)


def give_up_lost(connection: Connection, record_ids: Sequence[str]) -> int:
    """Take records without a body out of those that wait, for good; return how many there were."""
    has_body = select(bodies.c.record_id).where(bodies.c.record_id == records.c.record_id).exists()
    giving_up = (
        update(records)
        .where(records.c.record_id.in_(record_ids), records.c.object_id.is_(None), ~has_body)
        .values(object_id=LOST)
    )
    return connection.execute(of_every_tenant(giving_up, _ARCHIVER)).rowcount


def seal(connection: Connection, content: Content, *, now: int) -> str:
    """Decide an object: number, key, content and members; return its key. Raises `RecordsMovedError`."""
    group = content.group
    number = _next_number(connection, group)
    key = object_key(
        mode=group.mode,
        institution_id=group.institution_id,
        day=date.fromisoformat(group.day),
        kind=group.kind,
        number=number,
    )
    object_id = connection.scalar(
        insert(objects)
        .values(
            key=key,
            institution_mode=group.mode.value,
            institution_id=group.institution_id,
            day=group.day,
            kind=group.kind.value,
            number=number,
            record_count=len(content.record_ids),
            first_sequence=content.first_sequence,
            last_sequence=content.last_sequence,
            content_bytes=content.content_bytes,
            sha256=content.sha256,
            state=ObjectState.SEALED.value,
            attempts=0,
            sealed_at=now,
            has_bodies=True,
        )
        .returning(objects.c.object_id)
    )
    moving = (
        update(records)
        .where(records.c.record_id.in_(content.record_ids), records.c.object_id.is_(None))
        .values(object_id=object_id)
    )
    moved = connection.execute(of_tenant(group.institution_id, moving)).rowcount
    if moved != len(content.record_ids):
        raise RecordsMovedError
    failpoint("object.before_seal_commit")
    return key


def _next_number(connection: Connection, group: Group) -> int:
    counting = (
        update(numbers)
        .where(numbers.c.institution_mode == group.mode.value)
        .values(last_number=numbers.c.last_number + 1)
        .returning(numbers.c.last_number)
    )
    number = connection.scalar(of_tenant(group.institution_id, counting))
    if number is None:
        first = {"institution_mode": group.mode.value, "institution_id": group.institution_id}
        connection.execute(insert(numbers).values(**first, last_number=1))
        return 1
    return int(number)


def sealed_objects(connection: Connection, *, limit: int) -> list[SealedObject]:
    """Return objects that wait to be stored, those with the fewest failed attempts first."""
    query = (
        select(
            objects.c.object_id,
            objects.c.key,
            objects.c.record_count,
            objects.c.first_sequence,
            objects.c.last_sequence,
            objects.c.content_bytes,
            objects.c.sha256,
        )
        .where(_IS_SEALED)
        .order_by(objects.c.attempts, objects.c.object_id)
        .limit(limit)
    )
    return [SealedObject(*row) for row in connection.execute(of_every_tenant(query, _ARCHIVER))]


def bodies_of(connection: Connection, object_id: int) -> list[bytes]:
    """Return the bodies of an object that is not stored yet, in the order it was sealed with."""
    query = (
        select(bodies.c.body)
        .join(records, records.c.record_id == bodies.c.record_id)
        .where(records.c.object_id == object_id)
        .order_by(records.c.sequence, records.c.record_id)
    )
    return list(connection.scalars(of_every_tenant(query, _ARCHIVER)))


def mark_stored(connection: Connection, object_id: int, *, now: int) -> bool:
    """Note that an object is in the archive; its bodies are dropped next. False when it is not sealed any more."""
    return _settle(
        connection,
        object_id,
        state=ObjectState.STORED.value,
        stored_at=now,
        attempts=objects.c.attempts + 1,
        last_error=None,
    )


def objects_to_clear(connection: Connection) -> list[int]:
    """Return the stored objects whose bodies were not all dropped yet."""
    stored: ColumnElement[bool] = literal_column(
        "archive_objects.state = 'stored' AND archive_objects.has_bodies"
    )
    query = select(objects.c.object_id).where(stored)
    return list(connection.scalars(of_every_tenant(query, _ARCHIVER)))


def members(connection: Connection, object_id: int) -> list[str]:
    """Return the ids of the records in an object."""
    query = select(records.c.record_id).where(records.c.object_id == object_id)
    return list(connection.scalars(of_every_tenant(query, _ARCHIVER)))


def drop_bodies(connection: Connection, record_ids: Sequence[str]) -> Amount:
    """Drop the bodies of `record_ids` and return how many there were and how long."""
    dropping = delete(bodies).where(bodies.c.record_id.in_(record_ids)).returning(func.length(bodies.c.body))
    lengths = connection.scalars(of_every_tenant(dropping, _ARCHIVER)).all()
    return Amount(len(lengths), sum(lengths))


def mark_cleared(connection: Connection, object_id: int) -> None:
    """Note that an object has no bodies left."""
    clearing = update(objects).where(objects.c.object_id == object_id).values(has_bodies=False)
    connection.execute(of_every_tenant(clearing, _ARCHIVER))


def mark_failed(connection: Connection, object_id: int, *, error: str) -> bool:
    """Note a failed attempt; the object stays sealed and is tried again. False when it is not sealed any more."""
    return _settle(connection, object_id, attempts=objects.c.attempts + 1, last_error=error[:200])


def mark_damaged(connection: Connection, object_id: int) -> bool:
    """Give up an object whose bodies changed after it was sealed; they stay where they are.

    False when it is not sealed any more: then its bodies are gone because it is in the archive.
    """
    return _settle(
        connection,
        object_id,
        state=ObjectState.DAMAGED.value,
        last_error="the spool does not hold what was sealed",
    )


def mark_conflict(connection: Connection, object_id: int) -> bool:
    """Give up an object whose key holds something else; its records wait for a later object again.

    False when it is not sealed any more; then nothing was changed.
    """
    gave_up = _settle(
        connection,
        object_id,
        state=ObjectState.CONFLICT.value,
        attempts=objects.c.attempts + 1,
        last_error="something else lies under this key",
    )
    if gave_up:
        freeing = update(records).where(records.c.object_id == object_id).values(object_id=None)
        connection.execute(of_every_tenant(freeing, _ARCHIVER))
    return gave_up


def state_of(connection: Connection, object_id: int) -> ObjectState:
    """Return what became of an object so far."""
    query = select(objects.c.state).where(objects.c.object_id == object_id)
    return ObjectState(connection.execute(of_every_tenant(query, _ARCHIVER)).scalar_one())


def _settle(connection: Connection, object_id: int, **changes: object) -> bool:
    """Change an object that is still sealed: whoever listed it may be late, and what is stored stays stored."""
    change = update(objects).where(objects.c.object_id == object_id, _IS_SEALED).values(**changes)
    return connection.execute(of_every_tenant(change, _ARCHIVER)).rowcount == 1


def _of_group(group: Group) -> ColumnElement[bool]:
    return and_(
        records.c.institution_mode == group.mode.value,
        records.c.day == group.day,
        records.c.kind == group.kind.value,
    )
