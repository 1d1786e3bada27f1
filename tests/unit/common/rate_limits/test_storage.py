import threading

import pytest
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from common.rate_limits.storage import BoundedStorage
from tests.unit.common.rate_limits.clocks import Clock

MINUTE = 60
FIVE = RateLimitItemPerMinute(5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(clock: Clock) -> BoundedStorage:
    return BoundedStorage(max_keys=100, clock=clock)


def spent(storage: BoundedStorage, times: int, *, limit: int = 5) -> list[int]:
    return [storage.spend("key", limit, MINUTE) for _ in range(times)]


class TestSpend:
    def test_says_how_many_are_left_and_then_that_there_is_none(self, storage: BoundedStorage) -> None:
        assert spent(storage, 7) == [4, 3, 2, 1, 0, -1, -1]

    def test_counts_each_key_by_itself(self, storage: BoundedStorage) -> None:
        spent(storage, 5)

        assert storage.spend("other", 5, MINUTE) == 4

    def test_counts_the_window_before_less_and_less(self, storage: BoundedStorage, clock: Clock) -> None:
        spent(storage, 5)
        clock.now += MINUTE + 30  # half of the next window

        assert spent(storage, 4) == [2, 1, 0, -1]

    def test_does_not_count_what_it_refuses(self, storage: BoundedStorage, clock: Clock) -> None:
        spent(storage, 500)
        clock.now += 2 * MINUTE - 13

        assert spent(storage, 1) == [3]

    def test_starts_anew_after_two_windows(self, storage: BoundedStorage, clock: Clock) -> None:
        spent(storage, 5)
        clock.now += 2 * MINUTE

        assert spent(storage, 1) == [4]

    def test_lets_no_burst_of_two_windows_through(self, storage: BoundedStorage, clock: Clock) -> None:
        clock.now += MINUTE - 1
        before = spent(storage, 5)
        clock.now += 2

        assert before[-1] == 0
        assert [left >= 0 for left in spent(storage, 3)] == [True, False, False]


class TestBounds:
    def test_many_keys_take_no_more_room_than_given(self, storage: BoundedStorage) -> None:
        for number in range(10_000):
            storage.spend(f"address-{number}", 5, MINUTE)

        assert len(storage) == 100

    def test_who_is_counted_still_stays(self, storage: BoundedStorage) -> None:
        for number in range(1000):
            storage.spend(f"address-{number}", 5, MINUTE)
            left = storage.spend("key", 2000, MINUTE)

        assert left == 1000

    def test_expired_keys_go_while_others_come(self, storage: BoundedStorage, clock: Clock) -> None:
        for number in range(80):
            storage.spend(f"old-{number}", 5, MINUTE)
        clock.now += 2 * MINUTE
        for number in range(40):
            storage.spend(f"new-{number}", 5, MINUTE)

        assert len(storage) == 40

    def test_no_thread_is_started(self, storage: BoundedStorage) -> None:
        threads = threading.active_count()

        for number in range(1000):
            storage.spend(f"address-{number}", 5, MINUTE)

        assert threading.active_count() == threads


class TestAsTheLibraryHasIt:
    def test_a_sliding_window_counts_on_it(self, storage: BoundedStorage, clock: Clock) -> None:
        limiter = SlidingWindowCounterRateLimiter(storage)

        hits = [limiter.hit(FIVE, "a") for _ in range(6)]
        clock.now += MINUTE + 30

        assert hits == [True] * 5 + [False]
        assert limiter.test(FIVE, "a", cost=3)
        assert not limiter.test(FIVE, "a", cost=4)
        limiter.clear(FIVE, "a")
        assert limiter.test(FIVE, "a", cost=5)

    def test_a_fixed_window_counts_on_it(self, storage: BoundedStorage, clock: Clock) -> None:
        limiter = FixedWindowRateLimiter(storage)

        hits = [limiter.hit(FIVE, "a") for _ in range(6)]

        assert hits == [True] * 5 + [False]
        assert limiter.get_window_stats(FIVE, "a").reset_time == clock.now + MINUTE
        assert limiter.get_window_stats(FIVE, "b") == (clock.now, 5)
        limiter.clear(FIVE, "a")
        assert limiter.test(FIVE, "a")

    def test_it_can_be_emptied(self, storage: BoundedStorage) -> None:
        storage.incr("a", MINUTE)

        assert (storage.get("a"), storage.check(), storage.reset(), storage.get("a")) == (1, True, 1, 0)

    def test_it_says_of_an_unknown_key_what_the_library_does(self, storage: BoundedStorage) -> None:
        library = MemoryStorage()
        library.timer.join()

        previous, previous_s, current, current_s = storage.get_sliding_window("a", MINUTE)

        assert (previous, previous_s, current) == library.get_sliding_window("a", MINUTE)[:3]
        assert current_s == 2 * MINUTE

    def test_a_failure_of_it_is_no_error_of_the_network(self, storage: BoundedStorage) -> None:
        assert storage.base_exceptions is ValueError
