from datetime import UTC, datetime

import pytest

from ai_service.usage.policy import due_warnings, month_end, month_of, percent, seconds_left


class TestMonth:
    @pytest.mark.parametrize(
        ("at", "month"),
        [
            (datetime(2026, 11, 1, tzinfo=UTC), "2026-11"),
            (datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC), "2026-11"),
            (datetime(2027, 1, 1, tzinfo=UTC), "2027-01"),
        ],
    )
    def test_is_the_calendar_month(self, at: datetime, month: str) -> None:
        assert month_of(at) == month

    @pytest.mark.parametrize(
        ("month", "end"),
        [
            ("2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
            ("2026-11", datetime(2026, 12, 1, tzinfo=UTC)),
            ("2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
            ("2028-02", datetime(2028, 3, 1, tzinfo=UTC)),
        ],
    )
    def test_ends_when_the_next_one_begins(self, month: str, end: datetime) -> None:
        assert month_end(month) == end

    @pytest.mark.parametrize(
        ("now", "seconds"),
        [
            (datetime(2026, 11, 30, 23, 59, 59, 500_000, tzinfo=UTC), 1),
            (datetime(2026, 11, 30, 23, 59, 0, tzinfo=UTC), 60),
            (datetime(2026, 11, 1, tzinfo=UTC), 30 * 86_400),
        ],
    )
    def test_has_so_many_seconds_left(self, now: datetime, seconds: int) -> None:
        assert seconds_left(now) == seconds


class TestPercent:
    @pytest.mark.parametrize(
        ("decisions", "quota", "expected"),
        [
            (0, 3, 0.0),
            (1, 3, 33.3),
            (2, 3, 66.6),
            (3, 3, 100.0),
            (4, 3, 133.3),
            (49_999, 50_000, 99.9),
            (1, 10**9, 0.0),
        ],
    )
    def test_is_rounded_down(self, decisions: int, quota: int, expected: float) -> None:
        assert percent(decisions, quota) == expected


class TestDueWarnings:
    @pytest.mark.parametrize(
        ("decisions", "due"),
        [
            (0, ()),
            (49, ()),
            (50, (50,)),
            (79, (50,)),
            (80, (50, 80)),
            (90, (50, 80, 90)),
            (99, (50, 80, 90)),
            (100, (50, 80, 90, 100)),
            (1000, (50, 80, 90, 100)),
        ],
    )
    def test_are_those_that_are_reached(self, decisions: int, due: tuple[int, ...]) -> None:
        assert due_warnings(decisions, 100, given=()) == due

    def test_are_given_once(self) -> None:
        assert due_warnings(95, 100, given={50, 80}) == (90,)
        assert due_warnings(95, 100, given={50, 80, 90}) == ()

    def test_are_all_due_at_once_where_the_quota_is_one(self) -> None:
        assert due_warnings(1, 1, given=()) == (50, 80, 90, 100)

    def test_come_at_the_first_decision_that_reaches_them(self) -> None:
        assert due_warnings(1, 3, given=()) == ()
        assert due_warnings(2, 3, given=()) == (50,)
