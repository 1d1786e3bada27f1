import pytest

from user_service.attempts.policy import (
    ACCOUNT,
    ADDRESS,
    BOUNDS,
    CODE,
    CODE_WINDOW_MS,
    FIRST_LOCK_MS,
    MEMORY_MS,
    WINDOW_MS,
    Bound,
    Counted,
    Tally,
    address_group,
    after_failure,
    also_on,
    is_closed_to,
)
from user_service.times import DAY_MS, MINUTE_MS

NOW = 1_700_000_000_000
NONE = Tally(0, NOW, 0)


def fail(times: int, *, bound: Bound = ACCOUNT, seen: Tally = NONE, now_ms: int = NOW) -> Tally:
    for _ in range(times):
        seen = after_failure(seen, bound, now_ms=now_ms)
    return seen


class TestAfterFailure:
    def test_does_not_lock_before_the_bound(self) -> None:
        assert not fail(9).is_locked(now_ms=NOW)

    def test_locks_an_account_for_half_an_hour_at_the_tenth(self) -> None:
        locked = fail(10)

        assert locked.is_locked(now_ms=NOW + 30 * MINUTE_MS - 1)
        assert not locked.is_locked(now_ms=NOW + 30 * MINUTE_MS)

    def test_locks_an_address_at_the_hundredth(self) -> None:
        assert not fail(99, bound=ADDRESS).is_locked(now_ms=NOW)
        assert fail(100, bound=ADDRESS).is_locked(now_ms=NOW)

    @pytest.mark.parametrize(
        ("locks", "hours"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (6, 16), (7, 24), (60, 24)]
    )
    def test_locks_an_account_twice_as_long_each_time_up_to_a_day(self, locks: int, hours: float) -> None:
        assert fail(10 * locks).locked_until_ms == NOW + int(hours * 60 * MINUTE_MS)

    def test_locks_an_address_never_longer_than_the_first_time(self) -> None:
        assert fail(500, bound=ADDRESS).locked_until_ms == NOW + FIRST_LOCK_MS

    def test_keeps_a_lock_that_is_over_in_mind(self) -> None:
        locked = fail(10)
        later = locked.locked_until_ms + MEMORY_MS - 1

        again = fail(10, seen=locked, now_ms=later)

        assert again.locked_until_ms == later + 2 * FIRST_LOCK_MS

    def test_begins_anew_a_day_after_a_lock(self) -> None:
        locked = fail(10)
        later = locked.locked_until_ms + MEMORY_MS

        assert after_failure(locked, ACCOUNT, now_ms=later) == fail(1, seen=Tally(0, later, 0), now_ms=later)

    def test_begins_anew_half_an_hour_after_the_first_of_some_failures(self) -> None:
        later = NOW + WINDOW_MS

        assert after_failure(fail(9), ACCOUNT, now_ms=later) == fail(1, seen=Tally(0, later, 0), now_ms=later)
        assert after_failure(fail(9), ACCOUNT, now_ms=later - 1).is_locked(now_ms=later - 1)

    def test_remembers_wrong_codes_for_a_week(self) -> None:
        later = NOW + CODE_WINDOW_MS

        assert CODE_WINDOW_MS == 7 * DAY_MS
        assert after_failure(fail(9, bound=CODE), CODE, now_ms=later - 1).is_locked(now_ms=later - 1)
        assert after_failure(fail(9, bound=CODE), CODE, now_ms=later).failures == 1

    def test_remembers_a_lock_by_codes_as_long(self) -> None:
        locked = fail(10, bound=CODE)
        later = locked.locked_until_ms + CODE_WINDOW_MS

        assert fail(1, bound=CODE, seen=locked, now_ms=later - 1).failures == 11
        assert fail(1, bound=CODE, seen=locked, now_ms=later).failures == 1

    def test_locks_for_a_week_in_the_end_when_codes_are_guessed(self) -> None:
        assert fail(10, bound=CODE).locked_until_ms == NOW + FIRST_LOCK_MS
        assert fail(200, bound=CODE).locked_until_ms == NOW + 7 * DAY_MS


def waits_s(times: int, *, every_s: float, seen: Tally = NONE) -> list[int]:
    """Return how long each of so many failures makes wait; each comes so long after the one before, or its wait."""
    waits, now_ms = [], NOW
    for _ in range(times):
        seen = after_failure(seen, ADDRESS, now_ms=now_ms)
        waits.append(max(0, seen.waits_until_ms - now_ms) // 1000)
        now_ms = max(now_ms + int(every_s * 1000), seen.waits_until_ms)
    return waits


class TestWaiting:
    def test_is_for_nobody_who_fails_five_times_a_minute_however_long(self) -> None:
        assert waits_s(90, every_s=12) == [0] * 90

    def test_begins_with_the_sixth_of_a_minute_and_grows(self) -> None:
        assert waits_s(10, every_s=0) == [0, 0, 0, 0, 0, 5, 10, 10, 10, 10]

    def test_lets_no_more_than_five_a_minute_through_in_the_end(self) -> None:
        waits = waits_s(100, every_s=0)

        assert 60 / 5 * 0.9 <= sum(waits[50:]) / 50 <= 60 / 5 * 1.5

    def test_is_none_for_those_who_came_a_little_earlier_and_were_looked_at_later(self) -> None:
        assert fail(5).refused_until_ms == 0

    def test_is_a_minute_at_most(self) -> None:
        assert fail(1000).waits_until_ms == NOW + MINUTE_MS

    def test_is_over_two_minutes_after_the_last_failure_whatever_came_before(self) -> None:
        assert waits_s(1, every_s=0, seen=fail(1000, now_ms=NOW - 2 * MINUTE_MS)) == [0]

    def test_goes_on_where_the_count_begins_anew(self) -> None:
        begun = fail(5, now_ms=NOW + WINDOW_MS - 1, seen=fail(1))

        again = after_failure(begun, ADDRESS, now_ms=NOW + WINDOW_MS)

        assert again.failures == 1
        assert again.waits_until_ms == NOW + WINDOW_MS + 5_000

    def test_is_no_lock(self) -> None:
        waiting = fail(6)

        assert not waiting.is_locked(now_ms=NOW)
        assert waiting.refused_until_ms == NOW + 5_000

    def test_is_as_long_as_the_lock_where_that_is_longer(self) -> None:
        assert fail(10).refused_until_ms == NOW + FIRST_LOCK_MS


class TestAlsoOn:
    def test_counts_those_that_the_account_counts_too(self) -> None:
        place = also_on(fail(2), fail(1, seen=also_on(fail(1), fail(1))))

        assert (place.failures, place.on_account) == (2, 2)

    def test_leaves_out_those_that_came_while_the_account_was_locked(self) -> None:
        place = also_on(fail(2), fail(4))

        assert (place.failures, place.on_account) == (4, 1)

    def test_begins_anew_when_the_account_does(self) -> None:
        before = also_on(fail(1), fail(1))

        place = also_on(Tally(1, NOW + 1, 0), fail(1, seen=before))

        assert (place.failures, place.on_account) == (2, 1)

    def test_begins_anew_when_the_place_does(self) -> None:
        before = also_on(fail(1), fail(1))

        assert fail(1, seen=before, now_ms=NOW + WINDOW_MS).on_account == 0


class TestIsClosedTo:
    def test_counts_everything_at_an_address_that_is_not_known(self) -> None:
        assert all(is_closed_to(counted, known=False) for counted in Counted)

    def test_counts_only_the_accounts_own_failures_at_a_known_address(self) -> None:
        closed = {counted for counted in Counted if is_closed_to(counted, known=True)}

        assert closed == {Counted.PLACE, Counted.CODES_AT_PLACE, Counted.SESSION}


class TestBounds:
    def test_are_ten_failures_at_an_account_and_a_hundred_at_an_address(self) -> None:
        assert {counted: bound.failures for counted, bound in BOUNDS.items()} == {
            Counted.ACCOUNT: 10,
            Counted.PLACE: 10,
            Counted.CODES: 10,
            Counted.CODES_AT_PLACE: 10,
            Counted.ADDRESS: 100,
            Counted.SESSION: 10,
        }
        longest = {counted: bound.longest_lock_ms for counted, bound in BOUNDS.items()}
        assert longest[Counted.ACCOUNT] == longest[Counted.PLACE] == DAY_MS
        assert longest[Counted.ADDRESS] == FIRST_LOCK_MS

    def test_remember_what_came_after_a_right_password_for_a_week(self) -> None:
        patient = {counted for counted, bound in BOUNDS.items() if bound.window_ms == CODE_WINDOW_MS}

        assert patient == {Counted.CODES, Counted.CODES_AT_PLACE, Counted.SESSION}


class TestAddressGroup:
    @pytest.mark.parametrize(
        ("address", "group"),
        [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("", ""),
            ("testclient", "testclient"),
        ],
    )
    def test_is_what_one_subscriber_has(self, address: str, group: str) -> None:
        assert address_group(address) == group
