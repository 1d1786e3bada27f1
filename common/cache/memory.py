"""The tier in the process: bounded, and each value for a while only."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Memory(Generic[KeyT, ValueT]):
    """Values by key; with too many, the one that was put there first makes room. For one event loop."""

    def __init__(self, *, max_items: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_items = max_items
        self._clock = clock
        self._kept: OrderedDict[KeyT, tuple[float, ValueT]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: KeyT) -> tuple[ValueT] | None:
        """Return the value of `key`, in a tuple because it may be None, or None where there is none."""
        found = self._kept.get(key)
        if found is None or found[0] <= self._clock():
            return None
        return (found[1],)

    def put(self, key: KeyT, value: ValueT, *, for_s: float) -> None:
        """Keep a value."""
        if self._max_items <= 0:
            return
        self._kept[key] = self._clock() + for_s, value
        self._kept.move_to_end(key)
        if len(self._kept) > self._max_items:
            self._kept.popitem(last=False)

    def forget(self, key: KeyT) -> None:
        """Keep no value of `key`."""
        self._kept.pop(key, None)

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
