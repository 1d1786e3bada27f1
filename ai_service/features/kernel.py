"""The velocity store's compiled core: one pass over a transaction's entities that reads, then adds.

This file is over the house limit for function length because numba inlines best what stands together.

Every array is int64. `table` and `seen` are open-addressing hash tables of (key, value) rows, key 0 = empty.
`slots` has a row per entity value, `events` a doubly linked list in time order per slot, `buckets` two singly
linked lists per slot, newest first: clock hours and days. `counters` says how much of each is used.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ai_service.features.velocity import (
    DAY_US,
    DAYS_IN_MONTH,
    DAYS_IN_WEEK,
    HOUR_US,
    HOURS_IN_WINDOW,
    KEEP_DAYS,
    KEEP_EXACT_US,
    KEEP_HOURS,
    LONG_EXACT_WINDOW_US,
    SHORT_WINDOW_US,
    Reading,
)

Ints = NDArray[np.int64]
NONE = -1

# columns of `slots`
OLDEST, NEWEST, SHORT_FIRST, SHORT_COUNT, SHORT_SUM, LONG_FIRST, LONG_COUNT, LONG_SUM = range(8)
HOURS, DAYS, FIRST_TIME, LAST_TIME, PLACE_TIME, LATITUDE, LONGITUDE = range(8, 15)
SLOT_COLUMNS = 15
# columns of `events` and of `buckets`
TIME, AMOUNT, BEFORE, AFTER = range(4)
START, COUNT, SUM, OLDER = range(4)
# `counters`: how many rows are used, and the first row of each list of free ones
SLOTS_USED, EVENTS_USED, EVENTS_FREE, BUCKETS_USED, BUCKETS_FREE, TABLE_USED, SEEN_USED = range(7)
COUNTERS = 7

_KNOWN, _C5, _S5, _C1, _S1 = Reading.KNOWN.value, Reading.COUNT_5M.value, Reading.SUM_5M.value, 3, 4
_C24, _S24, _C7, _S7, _C30, _S30 = 5, 6, 7, 8, 9, 10
_FIRST, _LAST, _PLACE, _LAT, _LON = 11, 12, 13, 14, 15


@njit(cache=True, nogil=True)
def find(table: Ints, key: int) -> int:
    """Return the row of `key`, or of the empty place where it belongs."""
    mask = table.shape[0] - 1
    row = (key ^ (key >> 29)) & mask
    while table[row, 0] != 0 and table[row, 0] != key:
        row = (row + 1) & mask
    return int(row)


@njit(cache=True, nogil=True)
def observe(
    keys: Ints,
    time: int,
    amount: int,
    place: Ints,
    add: bool,
    table: Ints,
    slots: Ints,
    events: Ints,
    buckets: Ints,
    counters: Ints,
    out: Ints,
) -> None:
    """Fill `out` (entities x readings) with what was known before, then add the transaction if `add`.

    `keys` has one key per entity, 0 for none. `place` is (known, latitude, longitude) with micro-degrees.
    The caller has made sure that every pool has room.
    """
    for entity in range(keys.shape[0]):
        key = keys[entity]
        for column in range(out.shape[1]):
            out[entity, column] = 0
        if key == 0:
            continue
        row = find(table, key)
        if table[row, 0] == 0:
            out[entity, _KNOWN] = 1
            if not add:
                continue
            slot = _new_slot(slots, counters)
            table[row, 0] = key
            table[row, 1] = slot
            counters[TABLE_USED] += 1
        else:
            slot = table[row, 1]
            out[entity, _KNOWN] = 2
            _read(slots, slot, events, buckets, time, out[entity])
        if add:
            _add_event(slots, slot, events, counters, time, amount)
            _add_bucket(slots, slot, HOURS, buckets, counters, time, HOUR_US, KEEP_HOURS, amount)
            _add_bucket(slots, slot, DAYS, buckets, counters, time, DAY_US, KEEP_DAYS, amount)
            _remember(slots, slot, time, place)


@njit(cache=True, nogil=True)
def _new_slot(slots: Ints, counters: Ints) -> int:
    slot = counters[SLOTS_USED]
    counters[SLOTS_USED] += 1
    for column in range(SLOT_COLUMNS):
        slots[slot, column] = 0
    for column in (OLDEST, NEWEST, SHORT_FIRST, LONG_FIRST, HOURS, DAYS, FIRST_TIME, LAST_TIME, PLACE_TIME):
        slots[slot, column] = NONE
    return int(slot)


@njit(cache=True, nogil=True)
def _read(slots: Ints, slot: int, events: Ints, buckets: Ints, time: int, out: Ints) -> None:
    out[_C5], out[_S5] = _exact(slots, slot, SHORT_FIRST, events, time, SHORT_WINDOW_US)
    out[_C1], out[_S1] = _exact(slots, slot, LONG_FIRST, events, time, LONG_EXACT_WINDOW_US)
    hour = time // HOUR_US
    node = slots[slot, HOURS]
    while node != NONE:
        start = buckets[node, START]
        if hour - HOURS_IN_WINDOW < start <= hour:
            out[_C24] += buckets[node, COUNT]
            out[_S24] += buckets[node, SUM]
        elif start <= hour - HOURS_IN_WINDOW:
            break
        node = buckets[node, OLDER]
    day = time // DAY_US
    node = slots[slot, DAYS]
    while node != NONE:
        start = buckets[node, START]
        if start <= day - DAYS_IN_MONTH:
            break
        if start <= day:
            out[_C30] += buckets[node, COUNT]
            out[_S30] += buckets[node, SUM]
            if start > day - DAYS_IN_WEEK:
                out[_C7] += buckets[node, COUNT]
                out[_S7] += buckets[node, SUM]
        node = buckets[node, OLDER]
    out[_FIRST] = slots[slot, FIRST_TIME]
    out[_LAST] = slots[slot, LAST_TIME]
    out[_PLACE] = slots[slot, PLACE_TIME]
    out[_LAT] = slots[slot, LATITUDE]
    out[_LON] = slots[slot, LONGITUDE]


@njit(cache=True, nogil=True)
def _exact(slots: Ints, slot: int, first: int, events: Ints, time: int, window: int) -> tuple[int, int]:
    """Return count and sum in (time - window, time].

    The slot keeps them for the window that ends at its newest event; a later or earlier end differs by the few
    events between the two, which are walked.
    """
    count, total = slots[slot, first + 1], slots[slot, first + 2]
    node = slots[slot, first]
    newest = slots[slot, NEWEST]
    if newest == NONE:
        return 0, 0
    if time >= events[newest, TIME]:
        while node != NONE and events[node, TIME] <= time - window:
            count -= 1
            total -= events[node, AMOUNT]
            node = events[node, AFTER]
        return count, total
    before = events[node, BEFORE]
    while before != NONE and events[before, TIME] > time - window:
        count += 1
        total += events[before, AMOUNT]
        before = events[before, BEFORE]
    node = newest
    while node != NONE and events[node, TIME] > time:
        if events[node, TIME] > time - window:
            count -= 1
            total -= events[node, AMOUNT]
        node = events[node, BEFORE]
    return count, total


@njit(cache=True, nogil=True)
def _add_event(slots: Ints, slot: int, events: Ints, counters: Ints, time: int, amount: int) -> None:
    newest = slots[slot, NEWEST]
    if newest != NONE and time <= events[newest, TIME] - KEEP_EXACT_US:
        return
    node = counters[EVENTS_FREE]
    if node != NONE:
        counters[EVENTS_FREE] = events[node, AFTER]
    else:
        node = counters[EVENTS_USED]
        counters[EVENTS_USED] += 1
    before = newest
    while before != NONE and events[before, TIME] > time:
        before = events[before, BEFORE]
    after = slots[slot, OLDEST] if before == NONE else events[before, AFTER]
    events[node, TIME] = time
    events[node, AMOUNT] = amount
    events[node, BEFORE] = before
    events[node, AFTER] = after
    if before == NONE:
        slots[slot, OLDEST] = node
    else:
        events[before, AFTER] = node
    if after == NONE:
        slots[slot, NEWEST] = node
    else:
        events[after, BEFORE] = node
    _move_window(slots, slot, SHORT_FIRST, events, node, SHORT_WINDOW_US)
    _move_window(slots, slot, LONG_FIRST, events, node, LONG_EXACT_WINDOW_US)
    _drop_old_events(slots, slot, events, counters)


@njit(cache=True, nogil=True)
def _move_window(slots: Ints, slot: int, first: int, events: Ints, added: int, window: int) -> None:
    """Keep count, sum and first event of the window that ends at the slot's newest event."""
    end = events[slots[slot, NEWEST], TIME]
    if events[added, TIME] > end - window:
        slots[slot, first + 1] += 1
        slots[slot, first + 2] += events[added, AMOUNT]
        if slots[slot, first] == NONE or events[added, AFTER] == slots[slot, first]:
            slots[slot, first] = added
    node = slots[slot, first]
    while events[node, TIME] <= end - window:
        slots[slot, first + 1] -= 1
        slots[slot, first + 2] -= events[node, AMOUNT]
        node = events[node, AFTER]
    slots[slot, first] = node


@njit(cache=True, nogil=True)
def _drop_old_events(slots: Ints, slot: int, events: Ints, counters: Ints) -> None:
    limit = events[slots[slot, NEWEST], TIME] - KEEP_EXACT_US
    node = slots[slot, OLDEST]
    while events[node, TIME] <= limit:
        after = events[node, AFTER]
        events[node, AFTER] = counters[EVENTS_FREE]
        counters[EVENTS_FREE] = node
        node = after
    slots[slot, OLDEST] = node
    events[node, BEFORE] = NONE


@njit(cache=True, nogil=True)
def _add_bucket(
    slots: Ints,
    slot: int,
    chain: int,
    buckets: Ints,
    counters: Ints,
    time: int,
    width: int,
    keep: int,
    amount: int,
) -> None:
    start = time // width
    head = slots[slot, chain]
    if head != NONE and start <= buckets[head, START] - keep:
        return
    newer = NONE
    node = head
    while node != NONE and buckets[node, START] > start:
        newer = node
        node = buckets[node, OLDER]
    if node == NONE or buckets[node, START] != start:
        older = node
        node = counters[BUCKETS_FREE]
        if node != NONE:
            counters[BUCKETS_FREE] = buckets[node, OLDER]
        else:
            node = counters[BUCKETS_USED]
            counters[BUCKETS_USED] += 1
        buckets[node, START] = start
        buckets[node, COUNT] = 0
        buckets[node, SUM] = 0
        buckets[node, OLDER] = older
        if newer == NONE:
            slots[slot, chain] = node
        else:
            buckets[newer, OLDER] = node
        _drop_old_buckets(slots[slot, chain], buckets, counters, keep)
    buckets[node, COUNT] += 1
    buckets[node, SUM] += amount


@njit(cache=True, nogil=True)
def _drop_old_buckets(head: int, buckets: Ints, counters: Ints, keep: int) -> None:
    limit = buckets[head, START] - keep
    last = head
    node = buckets[head, OLDER]
    while node != NONE and buckets[node, START] > limit:
        last = node
        node = buckets[node, OLDER]
    buckets[last, OLDER] = NONE
    while node != NONE:
        older = buckets[node, OLDER]
        buckets[node, OLDER] = counters[BUCKETS_FREE]
        counters[BUCKETS_FREE] = node
        node = older


@njit(cache=True, nogil=True)
def _remember(slots: Ints, slot: int, time: int, place: Ints) -> None:
    if slots[slot, FIRST_TIME] == NONE or time < slots[slot, FIRST_TIME]:
        slots[slot, FIRST_TIME] = time
    if time > slots[slot, LAST_TIME]:
        slots[slot, LAST_TIME] = time
    if place[0] == 1 and time > slots[slot, PLACE_TIME]:
        slots[slot, PLACE_TIME] = time
        slots[slot, LATITUDE] = place[1]
        slots[slot, LONGITUDE] = place[2]


@njit(cache=True, nogil=True)
def rehash(old: Ints, new: Ints, least_value: int) -> int:
    """Copy the rows of `old` whose value is at least `least_value` into the empty `new`; return how many."""
    copied = 0
    for row in range(old.shape[0]):
        if old[row, 0] != 0 and old[row, 1] >= least_value:
            place = find(new, old[row, 0])
            new[place, 0] = old[row, 0]
            new[place, 1] = old[row, 1]
            copied += 1
    return copied
