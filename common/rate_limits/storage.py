"""Where rate limits count: in this process, in bounded memory, behind the interface of the `limits` library.

The library's own memory storage starts a thread to look for expired keys up to a hundred times a second while it is
used, looks at all of them each time, and holds as many as anybody makes. This one holds at most `max_keys` and makes
room while it is used. A store that several processes share takes its place in `open_storage`, the one place where it
is chosen.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from limits.storage import SlidingWindowCounterSupport, Storage

SWEPT_AT_ONCE = 2  # more than can be new, so that what has expired goes away


def open_storage(*, max_keys: int, clock: Callable[[], float] = time.monotonic) -> "BoundedStorage":
    """Return where to count; each kind of limit has a storage of its own, which the others cannot fill."""
    return BoundedStorage(max_keys=max_keys, clock=clock)


@dataclass(slots=True)
class _Counter:
    """The counts of two windows that follow one another; `number` is the later one's, since the clock's zero."""

    expiry: int
    number: int
    previous: int = 0
    current: int = 0

    def roll(self, now: float) -> None:
        """Move on to the window of `now`."""
        number = int(now / self.expiry)
        if number != self.number:
            self.previous = self.current if number == self.number + 1 else 0
            self.number, self.current = number, 0

    def weighted(self, now: float) -> float:
        """Return the count of the last `expiry` seconds, as if the earlier window's had been spread evenly."""
        if not self.previous:
            return self.current
        return self.previous * (self.number + 1 - now / self.expiry) + self.current

    def has_expired(self, now: float) -> bool:
        """Say whether nothing of it counts any more."""
        return now >= (self.number + 2) * self.expiry


class BoundedStorage(Storage, SlidingWindowCounterSupport):
    """Counts by key; when `max_keys` are there, the one that was not used for longest makes room.

    For one event loop: it is not safe to share between threads.
    """

    STORAGE_SCHEME = None

    def __init__(self, *, max_keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._max_keys = max_keys
        self._clock = clock
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    @property
    def base_exceptions(self) -> type[Exception]:
        """Return what the library would wrap."""
        return ValueError

    def spend(self, key: str, limit: int, expiry: int) -> int:
        """Count one for `key` and return how many are left, -1 if it was one too many, which is not counted.

        It is what `limits` does in two calls, at the cost that the scoring path can bear.
        """
        now = self._clock()
        counter = self._counter(key, expiry, now)
        left = limit - 1 - int(counter.weighted(now))
        if left < 0:
            return -1
        counter.current += 1
        return left

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` for `key` unless that goes beyond `limit`; what is refused is not counted."""
        now = self._clock()
        counter = self._counter(key, expiry, now)
        if int(counter.weighted(now)) + amount > limit:
            return False
        counter.current += amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return count and remaining seconds of the earlier window, and of the running one."""
        now = self._clock()
        counter = self._counters.get(key)
        if counter is None:
            return 0, 0.0, 0, expiry - now % expiry + expiry
        counter.roll(now)
        left = (counter.number + 1) * expiry - now
        return counter.previous, left if counter.previous else 0.0, counter.current, left + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget `key`."""
        self._counters.pop(key, None)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` for `key` in the running window and return its count."""
        counter = self._counter(key, expiry, self._clock())
        counter.current += amount
        return counter.current

    def get(self, key: str) -> int:
        """Return the running window's count of `key`."""
        counter = self._counters.get(key)
        if counter is None:
            return 0
        counter.roll(self._clock())
        return counter.current

    def get_expiry(self, key: str) -> float:
        """Return when the running window of `key` ends, by this storage's clock."""
        counter = self._counters.get(key)
        if counter is None:
            return self._clock()
        counter.roll(self._clock())
        return float((counter.number + 1) * counter.expiry)

    def check(self) -> bool:
        """Say that it can be used."""
        return True

    def reset(self) -> int:
        """Forget everything; return how much that was."""
        count = len(self._counters)
        self._counters.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget `key`."""
        self._counters.pop(key, None)

    def _counter(self, key: str, expiry: int, now: float) -> _Counter:
        counter = self._counters.get(key)
        if counter is None:
            self._make_room(now)
            counter = self._counters[key] = _Counter(expiry, int(now / expiry))
        else:
            self._counters.move_to_end(key)
            counter.roll(now)
        return counter

    def _make_room(self, now: float) -> None:
        for _ in range(SWEPT_AT_ONCE):
            oldest = next(iter(self._counters.values()), None)
            if oldest is None or not oldest.has_expired(now):
                break
            self._counters.popitem(last=False)
        if len(self._counters) >= self._max_keys:
            self._counters.popitem(last=False)
