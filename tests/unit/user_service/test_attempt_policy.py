import pytest

from user_service.attempts.policy import (
    ACCOUNT,
    ADDRESS,
    FIRST_LOCK_MS,
    MEMORY_MS,
    MINUTE_MS,
    WINDOW_MS,
    Bound,
    Tally,
    address_group,
    after_failure,
)

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

        assert after_failure(locked, ACCOUNT, now_ms=later) == Tally(1, later, 0)

    def test_begins_anew_half_an_hour_after_the_first_of_some_failures(self) -> None:
        later = NOW + WINDOW_MS

        assert after_failure(fail(9), ACCOUNT, now_ms=later) == Tally(1, later, 0)
        assert after_failure(fail(9), ACCOUNT, now_ms=later - 1).is_locked(now_ms=later - 1)


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
