"""Moves numbers on behind what the archive holds from after the backup, so that none is given out a second time.

The archive may be newer than the databases that are restored beside it: it is never deleted. Its objects from after the
backup stay, under keys that log_service would use next, with decisions and events whose numbers ai_service and
user_service would give out next. Those go on behind them; what lies between is in the archive alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Table, func, insert, select, update

from ai_service.scoring.tables import decision_sequences
from assay.archive_objects import Archive, NewerObject
from assay.reading import WHOLE
from common.contracts.audit_records import RecordKind
from common.tenancy import of_every_tenant
from log_service.archive.tables import numbers, records
from user_service.numbering import CounterRow

EVENTS = "events:"  # what user_service calls the counter of an institution's identity events


@dataclass(frozen=True)
class Advanced:
    """How many objects were found that the backup does not know, and how many counters were moved on."""

    newer_objects: int
    counters: int


def advance_numbers(connections: Mapping[str, Connection], archive: Archive) -> Advanced:
    """Move every counter behind the greatest number that records or newer objects show; part of the restore."""
    known = connections["log_service"]
    newer = archive.newer_than(known)
    moved = 0
    for (mode, institution_id), number in _greatest_objects(newer).items():
        key = {"institution_mode": mode, "institution_id": institution_id}
        moved += _advance(known, numbers, key, numbers.c.last_number, number)
    for (institution_id, kind), number in _greatest_records(known, newer, archive).items():
        if kind == RecordKind.DECISION.value:
            table, key = decision_sequences, {"institution_id": institution_id}
            moved += _advance(connections["ai_service"], table, key, table.c.last, number)
        elif kind == RecordKind.IDENTITY.value:
            counters = CounterRow.metadata.tables[CounterRow.__tablename__]
            key = {"name": f"{EVENTS}{institution_id}"}
            moved += _advance(connections["user_service"], counters, key, counters.c.last, number)
    return Advanced(len(newer), moved)


def _greatest_objects(newer: Sequence[NewerObject]) -> dict[tuple[str, str], int]:
    greatest: dict[tuple[str, str], int] = {}
    for each in newer:
        key = (each.mode, each.institution_id)
        greatest[key] = max(greatest.get(key, 0), each.number)
    return greatest


def _greatest_records(
    known: Connection, newer: Sequence[NewerObject], archive: Archive
) -> dict[tuple[str, str], int]:
    query = select(records.c.institution_id, records.c.kind, func.max(records.c.sequence)).group_by(
        records.c.institution_id, records.c.kind
    )
    greatest = {
        (institution_id, kind): int(last)
        for institution_id, kind, last in known.execute(of_every_tenant(query, WHOLE))
    }
    # records of a kind go into objects by the day, so the last number need not be in the last object
    for each in newer:
        key = (each.institution_id, each.kind)
        greatest[key] = max(greatest.get(key, 0), archive.last_sequence(each))
    return greatest


def _advance(
    connection: Connection, table: Table, key: Mapping[str, str], counter: "Column[int]", number: int
) -> bool:
    """Set a counter to `number` unless it is beyond; return whether it was moved."""
    here = [table.c[name] == value for name, value in key.items()]
    found = connection.scalar(of_every_tenant(select(counter).where(*here), WHOLE))
    if found is not None and found >= number:
        return False
    if found is None:
        connection.execute(of_every_tenant(insert(table).values({**key, counter.name: number}), WHOLE))
    else:
        connection.execute(of_every_tenant(update(table).where(*here).values({counter.name: number}), WHOLE))
    return True
