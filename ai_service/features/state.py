"""The arrays of the velocity state: how they begin and how they grow."""

import mmap
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_service.features import kernel
from ai_service.features.velocity import LONGEST_WINDOW_US, VelocityReading

Ints = NDArray[np.int64]

POOLS = ("table", "seen", "slots", "events", "buckets", "rings")
"""The arrays in the order of the rows of `dirty`."""
_COLUMNS = {"slots": kernel.SLOT_COLUMNS, "events": 4, "buckets": 4, "rings": 3}
_USED = {
    "slots": kernel.SLOTS_USED,
    "events": kernel.EVENTS_USED,
    "buckets": kernel.BUCKETS_USED,
    "rings": kernel.RINGS_USED,
}
_ADDED_AT_MOST = {"slots": kernel.ENTITIES, "events": kernel.ENTITIES, "buckets": 2 * kernel.ENTITIES}
_FIRST_ROWS = 1 << 12


class Unsaved(NamedTuple):
    """A reading whose decision is not durable yet; `body` is the transaction's, or its SHA-256 after a restart."""

    body: bytes
    is_digest: bool
    reading: VelocityReading


@dataclass
class StateArrays:
    """Everything a snapshot holds; all arrays are int64."""

    table: Ints
    seen: Ints
    slots: Ints
    events: Ints
    buckets: Ints
    rings: Ints
    counters: Ints
    sequences: dict[str, int] = field(default_factory=dict)
    unsaved: dict[tuple[str, str], Unsaved] = field(default_factory=dict)


def empty_state() -> StateArrays:
    """Return the state of a store that has seen nothing; its keys are made with a secret of its own."""
    counters = np.zeros(kernel.COUNTERS, dtype=np.int64)
    for free in (kernel.SLOTS_FREE, kernel.EVENTS_FREE, kernel.BUCKETS_FREE, kernel.RINGS_FREE):
        counters[free] = kernel.NONE
    counters[kernel.SECRET :] = np.frombuffer(secrets.token_bytes(16), dtype=np.int64)
    return StateArrays(
        table=np.zeros((_FIRST_ROWS, 2), dtype=np.int64),
        seen=np.zeros((_FIRST_ROWS, 2), dtype=np.int64),
        slots=_no_rows("slots"),
        events=_no_rows("events"),
        buckets=_no_rows("buckets"),
        rings=_no_rows("rings"),
        counters=counters,
    )


class GrowingRows:
    """Rows of int64 that grow in place: the system moves their pages instead of copying them.

    What lies beyond the rows in use takes no memory until it is written.
    """

    def __init__(self, begin: Ints, *, rows: int) -> None:
        self._columns = begin.shape[1]
        self._memory = self._mapped(rows)
        self.rows = self._view()
        self.rows[: len(begin)] = begin

    def grow(self, rows: int) -> None:
        """Make it `rows` long; new rows are zero. Whoever keeps the old `rows` makes this a copy."""
        del self.rows
        try:
            self._memory.resize(rows * self._columns * 8)
        except (BufferError, SystemError):  # the rows are held elsewhere, or this system cannot move pages
            bigger = self._mapped(rows)
            bigger[: len(self._memory)] = self._memory[:]
            self._memory = bigger
        self.rows = self._view()

    def _mapped(self, rows: int) -> mmap.mmap:
        return mmap.mmap(-1, rows * self._columns * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def _view(self) -> Ints:
        return np.frombuffer(self._memory, dtype=np.int64).reshape(-1, self._columns)


class VelocityState:
    """The arrays of a running store. `observe` is the kernel with them; it is another one after `make_room`."""

    def __init__(self, begin: StateArrays) -> None:
        self.counters = begin.counters
        self._tables = {"table": begin.table, "seen": begin.seen}
        self._pools = {
            name: GrowingRows(getattr(begin, name), rows=max(_FIRST_ROWS, 2 * _needed(self.counters, name)))
            for name in _COLUMNS
        }
        self.dirty = np.zeros((len(POOLS), 0), dtype=np.uint8)
        self._renew()

    def make_room(self, *, received_at: int) -> None:
        """Enlarge what could overflow while one transaction is added; expired keys are dropped first."""
        del self.observe  # so that nobody holds what is to be moved
        try:
            self._enlarge(received_at)
        finally:
            self._renew()

    def sizes(self) -> Mapping[str, int]:
        """Return how many of each thing there are, and how many entities were evicted so far."""
        used = self.counters
        return {
            "entities": int(used[kernel.TABLE_USED]),
            "transactions": int(used[kernel.SEEN_USED]),
            "events": int(used[kernel.EVENTS_LIVE]),
            "buckets": int(used[kernel.BUCKETS_LIVE]),
            "rings": int(used[kernel.RINGS_LIVE]),
            "evicted": int(used[kernel.EVICTED]),
        }

    def used_rows(self, name: str) -> Ints:
        """Return the rows that mean something; whoever keeps them makes growing slow."""
        if name in self._tables:
            return self._tables[name]
        unit = kernel.RING_STEPS if name == "rings" else 1
        return self._pools[name].rows[: self.counters[_USED[name]] * unit]

    def _enlarge(self, received_at: int) -> None:
        used = self.counters
        for name, pool in self._pools.items():
            if _needed(used, name) > len(pool.rows):
                pool.grow(2 * _needed(used, name))
        if used[kernel.TABLE_USED] + kernel.ENTITIES > kernel.MAX_LOAD * len(self._tables["table"]):
            self._rehash("table", kernel.TABLE_USED, least_value=0)
        if used[kernel.SEEN_USED] + 1 > kernel.MAX_LOAD * len(self._tables["seen"]):
            self._rehash("seen", kernel.SEEN_USED, least_value=received_at - LONGEST_WINDOW_US + 1)

    def _rehash(self, name: str, used: int, *, least_value: int) -> None:
        """Copy the rows that count into a table of the same size, or of twice that if they fill half of it."""
        old = self._tables[name]
        is_crowded = kernel.count_from(old, least_value) > kernel.MAX_LOAD * len(old) / 2
        new = np.zeros((len(old) * (2 if is_crowded else 1), 2), dtype=np.int64)
        self.counters[used] = kernel.rehash(old, new, least_value)
        self._tables[name] = new
        self.dirty[POOLS.index(name)] = 1

    def _renew(self) -> None:
        rows = [*self._tables.values(), *(pool.rows for pool in self._pools.values())]
        blocks = max(len(each) for each in rows) // kernel.BLOCK + 1
        if blocks > self.dirty.shape[1]:
            bigger = np.ones((len(POOLS), blocks), dtype=np.uint8)
            bigger[:, : self.dirty.shape[1]] = self.dirty
            self.dirty = bigger
        table, seen, slots, events, buckets, rings = rows
        self.observe = partial(
            kernel.observe, table, seen, slots, events, buckets, rings, self.dirty, self.counters
        )


def _no_rows(name: str) -> Ints:
    return np.zeros((0, _COLUMNS[name]), dtype=np.int64)


def _needed(used: Ints, name: str) -> int:
    """Return how many rows a pool must have before one more transaction is added."""
    if name == "rings":
        return int(used[kernel.RINGS_USED] + kernel.ENTITIES) * kernel.RING_STEPS
    return int(used[_USED[name]]) + _ADDED_AT_MOST[name]
