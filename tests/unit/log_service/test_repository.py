from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, update
from sqlalchemy.engine import Engine

from common.canonical import sha256_hex
from common.contracts.audit_records import RecordKind, RecordsAccepted
from common.db import migrate, writing_engine
from common.tenancy import of_every_tenant
from log_service.archive import queries, repository
from log_service.archive.objects import content_of
from log_service.archive.queries import After
from log_service.archive.records import RecordConflictError, checked
from log_service.archive.repository import Amount, Content, RecordsMovedError
from log_service.archive.schemas import ObjectState
from log_service.archive.sealing import Group
from log_service.archive.tables import records
from log_service.bootstrap import MIGRATIONS
from tests.api.log_service.harness import BANK, DAY, RIVAL, make_record, make_records

NOW = 1_793_620_800_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/log_service.db"
    migrate(url, migrations=MIGRATIONS)
    made = writing_engine(url)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as opened:
        yield opened


def group_of(connection: Connection, institution_id: str = BANK.institution_id) -> Group:
    """Return the one waiting group of an institution."""
    (found,) = [
        waiting.group
        for waiting in repository.waiting_groups(connection)
        if waiting.group.institution_id == institution_id
    ]
    return found


def content_for(connection: Connection, group: Group, *, limit: int = 1000) -> Content:
    """Return what the next object of `group` will hold."""
    waiting = repository.waiting_records(connection, group, limit=limit).records
    content = content_of([record.body for record in waiting])
    return Content(
        group=group,
        record_ids=tuple(record.record_id for record in waiting),
        first_sequence=waiting[0].sequence,
        last_sequence=waiting[-1].sequence,
        content_bytes=len(content),
        sha256=sha256_hex(content),
    )


def seal_next(connection: Connection, institution_id: str = BANK.institution_id, *, limit: int = 1000) -> str:
    """Seal an institution's next object and return its key."""
    group = group_of(connection, institution_id)
    return repository.seal(connection, content_for(connection, group, limit=limit), now=NOW)


class TestAccept:
    def test_answers_each_batch_on_its_own(self, connection: Connection) -> None:
        forged = [make_record(1, note="forged")]
        batches = [make_records(2), make_records(3), forged, make_records(1, first=9)]

        results = repository.accept(connection, [checked(batch) for batch in batches]).results

        assert results[0] == RecordsAccepted(accepted=2, repeated=0)
        assert results[1] == RecordsAccepted(accepted=1, repeated=2)
        assert isinstance(results[2], RecordConflictError)
        assert results[3] == RecordsAccepted(accepted=1, repeated=0)
        assert repository.count_spooled(connection).records == 4

    @pytest.mark.parametrize(
        "kept", [{"institution_id": "ins_rival"}, {"day": "2026-11-01"}, {"sequence": 9}]
    )
    def test_refuses_a_repeat_whose_envelope_is_not_the_kept_one(
        self, connection: Connection, kept: dict[str, Any]
    ) -> None:
        repository.accept(connection, [checked([make_record(1)])])
        connection.execute(of_every_tenant(update(records).values(**kept), "the test"))

        (result,) = repository.accept(connection, [checked([make_record(1)])]).results

        assert isinstance(result, RecordConflictError)


class TestCountSpooled:
    def test_counts_records_and_the_bytes_of_their_bodies(self, connection: Connection) -> None:
        repository.accept(connection, [checked([make_record(1, note="Zoë"), make_record(2)])])

        added = repository.accept(connection, [checked([make_record(2), make_record(3)])]).added
        found = repository.count_spooled(connection)

        lengths = [
            len(record.body.encode()) for record in (make_record(1, note="Zoë"), *make_records(2, first=2))
        ]
        assert found == Amount(3, sum(lengths))
        assert added == Amount(1, lengths[2])

    def test_is_nothing_at_first(self, connection: Connection) -> None:
        assert repository.count_spooled(connection) == Amount(0, 0)


class TestWaiting:
    def test_groups_by_institution_and_day(self, connection: Connection) -> None:
        repository.accept(connection, [checked([*make_records(3), *make_records(2, institution=RIVAL)])])

        found = repository.waiting_groups(connection)

        counts = {waiting.group.institution_id: waiting.records for waiting in found}
        assert counts == {"ins_bank": 3, "ins_rival": 2}
        assert {waiting.group.day for waiting in found} == {DAY}

    def test_gives_records_in_order_of_sequence(self, connection: Connection) -> None:
        repository.accept(connection, [checked([make_record(n) for n in (5, 1, 4, 2, 3)])])

        found = repository.waiting_records(connection, group_of(connection), limit=4)

        assert [record.sequence for record in found.records] == [1, 2, 3, 4]

    def test_names_records_without_a_body_once_and_gives_them_up(self, connection: Connection) -> None:
        repository.accept(connection, [checked(make_records(3))])
        lost, whole = make_record(1).record_id, make_record(2).record_id
        repository.drop_bodies(connection, [lost])
        group = group_of(connection)

        found = repository.waiting_records(connection, group, limit=10)
        given_up = repository.give_up_lost(connection, [lost, whole])

        assert [record.sequence for record in found.records] == [2, 3]
        assert found.lost == (lost,)
        assert given_up == 1
        assert repository.waiting_records(connection, group, limit=10).lost == ()
        assert [waiting.records for waiting in repository.waiting_groups(connection)] == [2]


class TestSeal:
    def test_numbers_objects_without_a_gap_per_institution(self, connection: Connection) -> None:
        repository.accept(connection, [checked([*make_records(3), *make_records(2, institution=RIVAL)])])

        keys = [
            seal_next(connection, limit=2),
            seal_next(connection, RIVAL.institution_id),
            seal_next(connection),
        ]

        assert [key.split("/")[2] + key[-23:-10] for key in keys] == [
            "ins_bank-000000000001",
            "ins_rival-000000000001",
            "ins_bank-000000000002",
        ]
        assert repository.waiting_groups(connection) == []
        assert repository.count_sealed(connection) == 3

    def test_refuses_records_that_are_in_an_object_already(self, connection: Connection) -> None:
        repository.accept(connection, [checked(make_records(2))])
        content = content_for(connection, group_of(connection))
        repository.seal(connection, content, now=NOW)

        with pytest.raises(RecordsMovedError):
            repository.seal(connection, content, now=NOW)

    def test_keeps_its_members_when_earlier_records_arrive_late(self, connection: Connection) -> None:
        repository.accept(connection, [checked(make_records(2, first=5))])
        seal_next(connection)
        repository.accept(connection, [checked(make_records(3))])

        (sealed,) = repository.sealed_objects(connection, limit=10)

        content = content_of(repository.bodies_of(connection, sealed.object_id))
        assert sha256_hex(content) == sealed.sha256


class TestAfterAnAttempt:
    def test_stored_objects_are_cleared_of_their_bodies_and_stay_in_the_index(
        self, connection: Connection
    ) -> None:
        repository.accept(connection, [checked(make_records(2))])
        seal_next(connection)
        (sealed,) = repository.sealed_objects(connection, limit=1)
        repository.accept(connection, [checked(make_records(1, first=3))])

        repository.mark_stored(connection, sealed.object_id, now=NOW)
        to_clear = repository.objects_to_clear(connection)
        dropped = repository.drop_bodies(connection, repository.members(connection, sealed.object_id))
        repository.mark_cleared(connection, sealed.object_id)

        assert to_clear == [sealed.object_id]
        assert dropped == Amount(2, sum(len(record.body.encode()) for record in make_records(2)))
        assert repository.objects_to_clear(connection) == []
        assert repository.sealed_objects(connection, limit=1) == []
        assert repository.count_spooled(connection).records == 1
        found = queries.find_record(connection, BANK, make_record(1).record_id)
        assert found is not None
        assert found.body is None
        assert found.stored_in is not None
        assert found.stored_in.key == sealed.key

    def test_nothing_is_cleared_before_it_is_stored(self, connection: Connection) -> None:
        repository.accept(connection, [checked(make_records(2))])

        seal_next(connection)

        assert repository.objects_to_clear(connection) == []

    def test_failed_objects_go_behind_the_others(self, connection: Connection) -> None:
        repository.accept(connection, [checked(make_records(2))])
        first, second = seal_next(connection, limit=1), seal_next(connection)
        (sealed,) = repository.sealed_objects(connection, limit=1)

        repository.mark_failed(connection, sealed.object_id, error="x" * 1000)

        assert [item.key for item in repository.sealed_objects(connection, limit=2)] == [second, first]

    def test_records_of_a_conflict_wait_again_and_its_number_is_spent(self, connection: Connection) -> None:
        repository.accept(connection, [checked(make_records(2))])
        lost = seal_next(connection)
        (sealed,) = repository.sealed_objects(connection, limit=1)

        repository.mark_conflict(connection, sealed.object_id)
        again = seal_next(connection)

        assert again.endswith("000000000002.ndjson.gz")
        assert again != lost
        assert repository.count_spooled(connection).records == 2
        assert queries.count_of_day(connection, BANK, DAY) == (2, 0)


class TestSettledObjects:
    @pytest.mark.parametrize(
        "late",
        [
            lambda c: repository.mark_damaged(c, 1),
            lambda c: repository.mark_conflict(c, 1),
            lambda c: repository.mark_failed(c, 1, error="late"),
            lambda c: repository.mark_stored(c, 1, now=NOW + 1),
        ],
    )
    def test_stay_as_they_are(self, connection: Connection, late: Callable[[Connection], bool]) -> None:
        repository.accept(connection, [checked(make_records(2))])
        seal_next(connection)
        repository.mark_stored(connection, 1, now=NOW)

        changed = late(connection)

        assert changed is False
        assert repository.state_of(connection, 1) is ObjectState.STORED
        assert len(repository.members(connection, 1)) == 2
        assert queries.count_of_day(connection, BANK, DAY) == (2, 2)


GROUP = Group(BANK.mode, BANK.institution_id, DAY, RecordKind.DECISION)


def plan_of(connection: Connection, run: Callable[[Connection], object]) -> str:
    """Return how SQLite means to execute the statements of `run`."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    run(connection)
    event.remove(connection, "before_cursor_execute", note)
    return "\n".join(
        row.detail
        for statement, parameters in statements
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    )


class TestPlans:
    """Statements that run all the time must not read what is long archived."""

    @pytest.mark.parametrize(
        ("run", "index"),
        [
            (repository.waiting_groups, "audit_records_waiting"),
            (lambda c: repository.waiting_records(c, GROUP, limit=10), "audit_records_waiting"),
            (repository.count_sealed, "archive_objects_sealed"),
            (lambda c: repository.sealed_objects(c, limit=4), "archive_objects_sealed"),
            (repository.objects_to_clear, "archive_objects_to_clear"),
            (lambda c: queries.records_of_day(c, BANK, DAY, after=After(), limit=9), "audit_records_of_day"),
        ],
    )
    def test_read_their_index_in_its_order(
        self, connection: Connection, run: Callable[[Connection], object], index: str
    ) -> None:
        plan = plan_of(connection, run)

        assert index in plan
        assert "TEMP B-TREE" not in plan

    @pytest.mark.parametrize(
        "run",
        [
            lambda c: repository.bodies_of(c, 1),
            lambda c: repository.members(c, 1),
            lambda c: repository.mark_conflict(c, 1),
        ],
    )
    def test_find_members_by_their_object(
        self, connection: Connection, run: Callable[[Connection], object]
    ) -> None:
        repository.accept(connection, [checked(make_records(1))])
        seal_next(connection)

        plan = plan_of(connection, run)

        assert "audit_records_by_object" in plan
        assert "SCAN" not in plan
