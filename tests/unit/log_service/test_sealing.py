import pytest

from common.contracts.audit_records import RecordKind
from common.contracts.institutions import InstitutionMode
from log_service.archive.sealing import (
    MAX_WAITING_OBJECTS,
    Group,
    WaitingGroup,
    WaitingRecord,
    due,
    fitting,
    least_records,
)


def waiting_group(institution_id: str, records: int) -> WaitingGroup:
    group = Group(InstitutionMode.LIVE, institution_id, "2026-11-02", RecordKind.DECISION)
    return WaitingGroup(group, records)


def waiting_records(*sizes: int) -> list[WaitingRecord]:
    return [WaitingRecord(f"dec_{place}", place, b"x" * size) for place, size in enumerate(sizes, 1)]


class TestLeastRecords:
    @pytest.mark.parametrize(
        ("interval_passed", "waiting_objects", "least"),
        [
            (False, 0, 1000),
            (False, MAX_WAITING_OBJECTS, 1000),
            (True, 0, 1),
            (True, MAX_WAITING_OBJECTS - 1, 1),
            (True, MAX_WAITING_OBJECTS, 1000),
        ],
    )
    def test_lets_small_objects_pass_once_an_interval_while_the_archive_keeps_up(
        self, *, interval_passed: bool, waiting_objects: int, least: int
    ) -> None:
        found = least_records(full=1000, interval_passed=interval_passed, waiting_objects=waiting_objects)

        assert found == least


class TestDue:
    def test_keeps_the_groups_that_have_enough(self) -> None:
        groups = [waiting_group("a", 999), waiting_group("b", 1000), waiting_group("c", 2500)]

        assert [waiting.group.institution_id for waiting in due(groups, least=1000)] == ["b", "c"]

    def test_keeps_all_when_any_number_will_do(self) -> None:
        groups = [waiting_group("a", 1), waiting_group("b", 1000)]

        assert due(groups, least=1) == groups


class TestFitting:
    @pytest.mark.parametrize(
        ("sizes", "taken"),
        [
            ((), 0),
            ((4, 4), 2),
            ((5, 5), 2),
            ((5, 6), 1),
            ((4, 4, 4), 2),
            ((11,), 1),
            ((11, 1), 1),
        ],
    )
    def test_takes_from_the_front_what_fits(self, sizes: tuple[int, ...], taken: int) -> None:
        records = waiting_records(*sizes)

        assert list(fitting(records, max_bytes=10)) == records[:taken]

    def test_reads_no_further_than_the_first_that_does_not_fit(self) -> None:
        source = iter(waiting_records(6, 6, 6))

        list(fitting(source, max_bytes=10))

        assert [record.sequence for record in source] == [3]
