"""log_service: no record, day or object holds anything of another institution."""

from datetime import date

import pytest
from sqlalchemy import Connection, select

from common.canonical import sha256_hex
from common.contracts.audit_records import RecordKind
from common.tenancy import of_every_tenant
from log_service.archive import queries, repository
from log_service.archive.objects import content_of
from log_service.archive.queries import After
from log_service.archive.records import checked
from log_service.archive.repository import Content, RecordsMovedError
from log_service.archive.sealing import Group
from log_service.archive.tables import numbers
from log_service.bootstrap import MIGRATIONS
from tests.api.log_service.harness import DAY, make_record
from tests.security.tenancy.worlds import BOTH, A, B, World, on_connection

NOW = 1_793_620_800_000


def fill(connection: Connection) -> None:
    """Give each institution a record in a stored object and one that waits."""
    for institution in BOTH:
        repository.accept(connection, [checked([make_record(1, institution=institution)])])
        repository.seal(connection, _content(connection, institution.institution_id), now=NOW)
        (sealed,) = repository.sealed_objects(connection, limit=9)
        repository.mark_stored(connection, sealed.object_id, now=NOW)
        repository.accept(connection, [checked([make_record(2, institution=institution)])])


def one_record(connection: Connection) -> None:
    for number in (1, 2):
        assert queries.find_record(connection, B, f"dec_ins_b_{number:06d}") is not None
        assert queries.find_record(connection, B, f"dec_ins_a_{number:06d}") is None


def an_exported_day(connection: Connection) -> None:
    found = queries.records_of_day(connection, B, DAY, after=After(), limit=99)

    assert [each.record_id for each in found] == ["dec_ins_b_000001", "dec_ins_b_000002"]


def objects_of_a_day(connection: Connection) -> None:
    (found,) = queries.objects_of_day(connection, B, DAY, after=0, limit=99)

    assert "ins_b" in found.key
    assert "ins_a" not in found.key


def totals_of_a_day(connection: Connection) -> None:
    assert queries.count_of_day(connection, B, DAY) == (2, 1)


def what_the_next_object_will_hold(connection: Connection) -> None:
    found = repository.waiting_records(connection, _group(B.institution_id), limit=99)

    assert [each.record_id for each in found.records] == ["dec_ins_b_000002"]


def an_object_of_others_records(connection: Connection) -> None:
    content = _content(connection, A.institution_id)
    forged = Content(
        _group(B.institution_id),
        content.record_ids,
        content.first_sequence,
        content.last_sequence,
        content.content_bytes,
        content.sha256,
    )

    with connection.begin_nested() as part:
        with pytest.raises(RecordsMovedError):
            repository.seal(connection, forged, now=NOW)
        part.rollback()


def numbers_of_objects(connection: Connection) -> None:
    repository.seal(connection, _content(connection, B.institution_id), now=NOW)

    found = connection.execute(
        of_every_tenant(select(numbers.c.institution_id, numbers.c.last_number), "the test")
    ).all()
    assert sorted(found) == [("ins_a", 1), ("ins_b", 2)]


def _group(institution_id: str) -> Group:
    return Group(A.mode, institution_id, date.fromisoformat(DAY).isoformat(), RecordKind.DECISION)


def _content(connection: Connection, institution_id: str) -> Content:
    group = _group(institution_id)
    waiting = repository.waiting_records(connection, group, limit=99).records
    content = content_of([record.body for record in waiting])
    return Content(
        group=group,
        record_ids=tuple(record.record_id for record in waiting),
        first_sequence=waiting[0].sequence,
        last_sequence=waiting[-1].sequence,
        content_bytes=len(content),
        sha256=sha256_hex(content),
    )


WORLD = World(
    MIGRATIONS,
    on_connection(fill),
    {
        check.__name__: on_connection(check)
        for check in (
            one_record,
            an_exported_day,
            objects_of_a_day,
            totals_of_a_day,
            what_the_next_object_will_hold,
            an_object_of_others_records,
            numbers_of_objects,
        )
    },
)
