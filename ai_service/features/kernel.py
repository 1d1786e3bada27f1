"""The velocity store's compiled core: one pass over a transaction's entities that reads, adds, and tidies up.

This file is over the house limit because numba's cache watches one file: a kernel that calls into another one would
not notice that it changed. For the same reason, touch it when a constant of `velocity.py` changes.

Every array but `dirty` is int64. `table` and `seen` are open-addressing hash tables of (key, value) rows, key 0 =
empty. `slots` has a row per entity, `events` a doubly linked list in time order per slot, `buckets` two singly linked
lists per slot, newest first: clock hours and days. `rings` has, for each slot with many events, `RING_STEPS` rows that
index its events by time. `counters` says how much of each is used. `dirty` notes which blocks of rows were written,
for the one who copies them meanwhile. What takes microseconds keeps the GIL: giving it away costs more.
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
    LONGEST_WINDOW_US,
    SHORT_WINDOW_US,
    Reading,
)

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
NONE = -1

# columns of `slots`; a free slot has key 0 and, in `OLDEST`, the next free one
KEY, OLDEST, NEWEST, SHORT_FIRST, SHORT_COUNT, SHORT_SUM, LONG_FIRST, LONG_COUNT, LONG_SUM = range(9)
HOURS, DAYS, FIRST_TIME, LAST_TIME, PLACE_TIME, LATITUDE, LONGITUDE, KEPT, RING = range(9, 18)
SLOT_COLUMNS = 18
# columns of `events`, of `buckets` and of `rings`
TIME, AMOUNT, BEFORE, AFTER = range(4)
START, COUNT, SUM, OLDER = range(4)
RING_COUNT, RING_SUM, RING_NEWEST = range(3)
# `counters`: how many rows were ever used, the first of each list of free ones, how many there are now, where the
# broom stands, and the secret that makes keys of names
SLOTS_USED, SLOTS_FREE, EVENTS_USED, EVENTS_FREE, BUCKETS_USED, BUCKETS_FREE, RINGS_USED, RINGS_FREE = range(
    8
)
TABLE_USED, SEEN_USED, EVENTS_LIVE, BUCKETS_LIVE, RINGS_LIVE, EVICTED, SLOT_BROOM, SEEN_BROOM = range(8, 16)
SECRET = 16
COUNTERS = 18
# rows of `dirty`
TABLE_BLOCKS, SEEN_BLOCKS, SLOT_BLOCKS, EVENT_BLOCKS, BUCKET_BLOCKS, RING_BLOCKS = range(6)
POOLS = 6
BLOCK_SHIFT = 6
BLOCK = 1 << BLOCK_SHIFT
# what `observe` answers
NEEDS_ROOM, TOO_OLD, REPEATED, ADDED = range(4)

ENTITIES = 9
RING_STEP_SHIFT = 22  # steps of 4.2 seconds
RING_STEPS = 1 << 11  # 2.4 hours of them, more than exact events are kept
RING_FROM = 1024  # events, from which on a slot has a ring
RING_UNTIL = RING_FROM // 4
MAX_LOAD = 0.6
SLOTS_SWEPT = 16  # per transaction, which adds at most nine
SEEN_SWEPT = 8  # per transaction, which adds one

_KNOWN, _C5, _S5, _C1, _S1 = Reading.KNOWN.value, Reading.COUNT_5M.value, Reading.SUM_5M.value, 3, 4
_C24, _S24, _C7, _S7, _C30, _S30 = 5, 6, 7, 8, 9, 10
_FIRST, _LAST, _PLACE, _LAT, _LON = 11, 12, 13, 14, 15
_SINGLE = 6  # entities that are one thing; those after them are the customer and another one
_OTHERS = np.array([2, 4, 5], dtype=np.int64)  # device, merchant, counterparty


@njit(cache=True)
def observe(
    table: Ints,
    seen: Ints,
    slots: Ints,
    events: Ints,
    buckets: Ints,
    rings: Ints,
    dirty: Bytes,
    counters: Ints,
    names: bytes,
    event_time: int,
    received_at: int,
    amount: int,
    latitude: float,
    longitude: float,
    again: bool,
    out: Ints,
) -> int:
    """Fill `out` (entities x readings) with what was known before, then add the transaction if it is to be counted.

    `names` are the names of institution, transaction, customer, card, device, address, merchant and counterparty
    with a NUL between each two, empty where there is none. Coordinates are degrees or NaN. A transaction that was
    seen before is only counted `again` on request. Answers `NEEDS_ROOM`, with nothing done, when an array is too
    small; `TOO_OLD`; `REPEATED`; or `ADDED`.
    """
    if (
        counters[SLOTS_USED] + ENTITIES > slots.shape[0]
        or counters[EVENTS_USED] + ENTITIES > events.shape[0]
        or counters[BUCKETS_USED] + 2 * ENTITIES > buckets.shape[0]
        or (counters[RINGS_USED] + ENTITIES) * RING_STEPS > rings.shape[0]
        or counters[TABLE_USED] + ENTITIES > MAX_LOAD * table.shape[0]
        or counters[SEEN_USED] + 1 > MAX_LOAD * seen.shape[0]
    ):
        return NEEDS_ROOM
    keys = np.zeros(ENTITIES, dtype=np.int64)
    transaction_key = _make_keys(names, counters, keys)
    horizon = received_at - LONGEST_WINDOW_US
    answer = TOO_OLD
    if event_time > horizon:
        is_new = _note_seen(seen, transaction_key, event_time, horizon, dirty, counters)
        answer = ADDED if is_new or again else REPEATED
    add = answer == ADDED
    for entity in range(ENTITIES):
        key = keys[entity]
        for column in range(out.shape[1]):
            out[entity, column] = 0
        if key == 0:
            continue
        row = find(table, key)
        slot = table[row, 1] if table[row, 0] != 0 else NONE
        if slot == NONE or slots[slot, LAST_TIME] <= horizon:
            out[entity, _KNOWN] = 1
            if not add:
                continue
            if slot == NONE:
                slot = _new_slot(slots, counters)
                table[row, 0] = key
                table[row, 1] = slot
                dirty[TABLE_BLOCKS, row >> BLOCK_SHIFT] = 1
                counters[TABLE_USED] += 1
            else:
                _drop_all(slots, slot, events, buckets, rings, dirty, counters)
            _clear_slot(slots, slot, key)
        else:
            out[entity, _KNOWN] = 2
            _read(slots, slot, events, buckets, rings, event_time, out[entity])
        if add:
            dirty[SLOT_BLOCKS, slot >> BLOCK_SHIFT] = 1
            _add_event(slots, slot, events, rings, dirty, counters, event_time, amount)
            _add_bucket(slots, slot, HOURS, buckets, dirty, counters, event_time, HOUR_US, KEEP_HOURS, amount)
            _add_bucket(slots, slot, DAYS, buckets, dirty, counters, event_time, DAY_US, KEEP_DAYS, amount)
            _remember(slots, slot, event_time, latitude, longitude)
    if add:
        _sweep_slots(table, slots, events, buckets, rings, dirty, counters, horizon)
        _sweep_seen(seen, dirty, counters, horizon)
    return answer


# Keys of names


@njit(cache=True)
def _make_keys(names: bytes, counters: Ints, keys: Ints) -> int:
    """Fill `keys` with a key per entity, 0 for none, and return the transaction's; all depend on the institution."""
    secret_0, secret_1 = np.uint64(counters[SECRET]), np.uint64(counters[SECRET + 1])
    begin, part = 0, 0
    transaction_key = 0
    for position in range(len(names) + 1):
        if position < len(names) and names[position] != 0:
            continue
        if part == 0:
            secret_0 ^= np.uint64(_hash_bytes(secret_0, secret_1, names, begin, position))
        elif part == 1:
            transaction_key = _hash_bytes(secret_0, secret_1, names, begin, position)
        elif position > begin:
            tagged = secret_1 ^ np.uint64(part)
            keys[part - 2] = _hash_bytes(secret_0, tagged, names, begin, position)
        part += 1
        begin = position + 1
    for pair in range(_OTHERS.shape[0]):
        other = keys[_OTHERS[pair]]
        if other != 0:
            keys[_SINGLE + pair] = _hash_pair(secret_0, secret_1, keys[0], other)
    return transaction_key


@njit(cache=True)
def _rotate(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@njit(cache=True)
def _sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 += v1
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 += v3
    v3 = _rotate(v3, 16) ^ v2
    v0 += v3
    v3 = _rotate(v3, 21) ^ v0
    v2 += v1
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@njit(cache=True)
def _sip_start(k0: np.uint64, k1: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    return (
        k0 ^ np.uint64(0x736F6D6570736575),
        k1 ^ np.uint64(0x646F72616E646F6D),
        k0 ^ np.uint64(0x6C7967656E657261),
        k1 ^ np.uint64(0x7465646279746573),
    )


@njit(cache=True)
def _sip_end(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> int:
    """Return the hash as a signed number that is not 0."""
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    found = np.int64(v0 ^ v1 ^ v2 ^ v3)
    return int(found) if found != 0 else 1


@njit(cache=True)
def _hash_bytes(k0: np.uint64, k1: np.uint64, names: bytes, begin: int, end: int) -> int:
    """Return SipHash-2-4 (Aumasson and Bernstein 2012) of names[begin:end]."""
    v0, v1, v2, v3 = _sip_start(k0, k1)
    word, shift = np.uint64(0), 0
    for position in range(begin, end):
        word |= np.uint64(names[position]) << np.uint64(shift)
        shift += 8
        if shift == 64:
            v3 ^= word
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0 ^= word
            word, shift = np.uint64(0), 0
    word |= np.uint64(end - begin) << np.uint64(56)
    v3 ^= word
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0 ^= word
    return _sip_end(v0, v1, v2, v3)


@njit(cache=True)
def _hash_pair(k0: np.uint64, k1: np.uint64, left: int, right: int) -> int:
    """Return the key of two things together, made from the keys of both."""
    v0, v1, v2, v3 = _sip_start(k0, k1)
    for number in (left, right):
        word = np.uint64(number)
        v3 ^= word
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0 ^= word
    return _sip_end(v0, v1, v2, v3)


# The two hash tables


@njit(cache=True)
def _home(key: int, mask: int) -> int:
    return (key ^ (key >> 29)) & mask


@njit(cache=True)
def find(table: Ints, key: int) -> int:
    """Return the row of `key`, or of the empty place where it belongs."""
    mask = table.shape[0] - 1
    row = _home(key, mask)
    while table[row, 0] != 0 and table[row, 0] != key:
        row = (row + 1) & mask
    return int(row)


@njit(cache=True)
def _erase(table: Ints, row: int, blocks: int, dirty: Bytes) -> None:
    """Empty `row`, and move up the rows after it that were displaced."""
    mask = table.shape[0] - 1
    hole = row
    row = (row + 1) & mask
    while table[row, 0] != 0:
        home = _home(table[row, 0], mask)
        if ((row - home) & mask) >= ((row - hole) & mask):
            table[hole, 0] = table[row, 0]
            table[hole, 1] = table[row, 1]
            dirty[blocks, hole >> BLOCK_SHIFT] = 1
            hole = row
        row = (row + 1) & mask
    table[hole, 0] = 0
    table[hole, 1] = 0
    dirty[blocks, hole >> BLOCK_SHIFT] = 1


@njit(cache=True)
def _note_seen(seen: Ints, key: int, time: int, horizon: int, dirty: Bytes, counters: Ints) -> bool:
    """Remember the transaction until it leaves the longest window; return whether it is new."""
    row = find(seen, key)
    is_known = seen[row, 0] != 0
    if is_known and seen[row, 1] > horizon:
        return False
    if not is_known:
        counters[SEEN_USED] += 1
    seen[row, 0] = key
    seen[row, 1] = time
    dirty[SEEN_BLOCKS, row >> BLOCK_SHIFT] = 1
    return True


@njit(cache=True, nogil=True)
def count_from(table: Ints, least_value: int) -> int:
    """Return how many rows have a value of at least `least_value`."""
    found = 0
    for row in range(table.shape[0]):
        if table[row, 0] != 0 and table[row, 1] >= least_value:
            found += 1
    return found


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


# Slots


@njit(cache=True)
def _new_slot(slots: Ints, counters: Ints) -> int:
    slot = counters[SLOTS_FREE]
    if slot != NONE:
        counters[SLOTS_FREE] = slots[slot, OLDEST]
    else:
        slot = counters[SLOTS_USED]
        counters[SLOTS_USED] += 1
    return int(slot)


@njit(cache=True)
def _clear_slot(slots: Ints, slot: int, key: int) -> None:
    for column in range(SLOT_COLUMNS):
        slots[slot, column] = 0
    for column in (
        OLDEST,
        NEWEST,
        SHORT_FIRST,
        LONG_FIRST,
        HOURS,
        DAYS,
        FIRST_TIME,
        LAST_TIME,
        PLACE_TIME,
        RING,
    ):
        slots[slot, column] = NONE
    slots[slot, KEY] = key


@njit(cache=True)
def _drop_all(
    slots: Ints, slot: int, events: Ints, buckets: Ints, rings: Ints, dirty: Bytes, counters: Ints
) -> None:
    """Give back everything that belongs to a slot; the caller clears or frees the slot itself."""
    node = slots[slot, OLDEST]
    while node != NONE:
        node = _free_event(events, node, dirty, counters)
    for chain in (HOURS, DAYS):
        node = slots[slot, chain]
        while node != NONE:
            node = _free_bucket(buckets, node, dirty, counters)
    _free_ring(slots, slot, rings, dirty, counters)


@njit(cache=True)
def _sweep_slots(
    table: Ints,
    slots: Ints,
    events: Ints,
    buckets: Ints,
    rings: Ints,
    dirty: Bytes,
    counters: Ints,
    horizon: int,
) -> None:
    """Look at the next few slots and evict those with nothing newer than `horizon`."""
    for _ in range(SLOTS_SWEPT):
        slot = counters[SLOT_BROOM]
        counters[SLOT_BROOM] = slot + 1 if slot + 1 < counters[SLOTS_USED] else 0
        if slots[slot, KEY] == 0 or slots[slot, LAST_TIME] > horizon:
            continue
        _drop_all(slots, slot, events, buckets, rings, dirty, counters)
        _erase(table, find(table, slots[slot, KEY]), TABLE_BLOCKS, dirty)
        slots[slot, KEY] = 0
        slots[slot, OLDEST] = counters[SLOTS_FREE]
        dirty[SLOT_BLOCKS, slot >> BLOCK_SHIFT] = 1
        counters[SLOTS_FREE] = slot
        counters[TABLE_USED] -= 1
        counters[EVICTED] += 1


@njit(cache=True)
def _sweep_seen(seen: Ints, dirty: Bytes, counters: Ints, horizon: int) -> None:
    """Look at the next few rows of `seen` and forget the transactions that left the longest window."""
    for _ in range(SEEN_SWEPT):
        row = counters[SEEN_BROOM] & (seen.shape[0] - 1)
        if seen[row, 0] != 0 and seen[row, 1] <= horizon:
            _erase(seen, row, SEEN_BLOCKS, dirty)
            counters[SEEN_USED] -= 1
        else:
            counters[SEEN_BROOM] = row + 1


@njit(cache=True)
def _remember(slots: Ints, slot: int, time: int, latitude: float, longitude: float) -> None:
    if slots[slot, FIRST_TIME] == NONE or time < slots[slot, FIRST_TIME]:
        slots[slot, FIRST_TIME] = time
    if time > slots[slot, LAST_TIME]:
        slots[slot, LAST_TIME] = time
    if time > slots[slot, PLACE_TIME] and not np.isnan(latitude + longitude):
        slots[slot, PLACE_TIME] = time
        slots[slot, LATITUDE] = np.int64(np.rint(latitude * 1e6))
        slots[slot, LONGITUDE] = np.int64(np.rint(longitude * 1e6))


# Reading


@njit(cache=True)
def _read(slots: Ints, slot: int, events: Ints, buckets: Ints, rings: Ints, time: int, out: Ints) -> None:
    out[_C5], out[_S5] = _exact(slots, slot, SHORT_FIRST, events, rings, time, SHORT_WINDOW_US)
    out[_C1], out[_S1] = _exact(slots, slot, LONG_FIRST, events, rings, time, LONG_EXACT_WINDOW_US)
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


@njit(cache=True)
def _exact(
    slots: Ints, slot: int, first: int, events: Ints, rings: Ints, time: int, window: int
) -> tuple[int, int]:
    """Return count and sum in (time - window, time].

    The slot keeps them for the window that ends at its newest event. A later end differs by the few events that left
    since. For an earlier end the events between the two are walked, which are at most `RING_FROM`: a slot with more
    of them has a ring.
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
    if slots[slot, RING] != NONE:
        return _indexed(slots, slot, events, rings, time - window, time)
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


# Exact events


@njit(cache=True)
def _add_event(
    slots: Ints, slot: int, events: Ints, rings: Ints, dirty: Bytes, counters: Ints, time: int, amount: int
) -> None:
    newest = slots[slot, NEWEST]
    if newest != NONE and time <= events[newest, TIME] - KEEP_EXACT_US:
        return
    node = counters[EVENTS_FREE]
    if node != NONE:
        counters[EVENTS_FREE] = events[node, AFTER]
    else:
        node = counters[EVENTS_USED]
        counters[EVENTS_USED] += 1
    counters[EVENTS_LIVE] += 1
    before = newest
    if slots[slot, RING] != NONE and newest != NONE and time < events[newest, TIME]:
        before = _start_of_walk(slots, slot, events, rings, time)
    while before != NONE and events[before, TIME] > time:
        before = events[before, BEFORE]
    after = slots[slot, OLDEST] if before == NONE else events[before, AFTER]
    events[node, TIME] = time
    events[node, AMOUNT] = amount
    events[node, BEFORE] = before
    events[node, AFTER] = after
    dirty[EVENT_BLOCKS, node >> BLOCK_SHIFT] = 1
    if before == NONE:
        slots[slot, OLDEST] = node
    else:
        events[before, AFTER] = node
        dirty[EVENT_BLOCKS, before >> BLOCK_SHIFT] = 1
    if after == NONE:
        slots[slot, NEWEST] = node
    else:
        events[after, BEFORE] = node
        dirty[EVENT_BLOCKS, after >> BLOCK_SHIFT] = 1
    slots[slot, KEPT] += 1
    if slots[slot, RING] != NONE:
        if after == NONE and before != NONE:
            _advance(rings, slots[slot, RING], events[before, TIME], time, dirty)
        _index(rings, slots[slot, RING], events, node, dirty)
    _move_window(slots, slot, SHORT_FIRST, events, node, SHORT_WINDOW_US)
    _move_window(slots, slot, LONG_FIRST, events, node, LONG_EXACT_WINDOW_US)
    _drop_old_events(slots, slot, events, rings, dirty, counters)
    if slots[slot, RING] == NONE and slots[slot, KEPT] >= RING_FROM:
        _new_ring(slots, slot, events, rings, dirty, counters)
    elif slots[slot, RING] != NONE and slots[slot, KEPT] < RING_UNTIL:
        _free_ring(slots, slot, rings, dirty, counters)


@njit(cache=True)
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


@njit(cache=True)
def _drop_old_events(slots: Ints, slot: int, events: Ints, rings: Ints, dirty: Bytes, counters: Ints) -> None:
    newest_time = events[slots[slot, NEWEST], TIME]
    node = slots[slot, OLDEST]
    while events[node, TIME] <= newest_time - KEEP_EXACT_US:
        if slots[slot, RING] != NONE:
            _unindex(rings, slots[slot, RING], events[node, TIME], events[node, AMOUNT], newest_time, dirty)
        slots[slot, KEPT] -= 1
        node = _free_event(events, node, dirty, counters)
    slots[slot, OLDEST] = node
    if events[node, BEFORE] != NONE:
        events[node, BEFORE] = NONE
        dirty[EVENT_BLOCKS, node >> BLOCK_SHIFT] = 1


@njit(cache=True)
def _free_event(events: Ints, node: int, dirty: Bytes, counters: Ints) -> int:
    """Give one event back; return the one after it."""
    after = events[node, AFTER]
    events[node, AFTER] = counters[EVENTS_FREE]
    dirty[EVENT_BLOCKS, node >> BLOCK_SHIFT] = 1
    counters[EVENTS_FREE] = node
    counters[EVENTS_LIVE] -= 1
    return int(after)


# Rings: how many events, what sum, and which newest event in each step of time


@njit(cache=True)
def _ring_row(ring: int, step: int) -> int:
    return ring * RING_STEPS + (step & (RING_STEPS - 1))


@njit(cache=True)
def _new_ring(slots: Ints, slot: int, events: Ints, rings: Ints, dirty: Bytes, counters: Ints) -> None:
    ring = counters[RINGS_FREE]
    if ring != NONE:
        counters[RINGS_FREE] = rings[ring * RING_STEPS, 0]
    else:
        ring = counters[RINGS_USED]
        counters[RINGS_USED] += 1
    counters[RINGS_LIVE] += 1
    slots[slot, RING] = ring
    for row in range(ring * RING_STEPS, (ring + 1) * RING_STEPS):
        rings[row, RING_COUNT] = 0
        rings[row, RING_SUM] = 0
        dirty[RING_BLOCKS, row >> BLOCK_SHIFT] = 1
    node = slots[slot, OLDEST]
    while node != NONE:
        _index(rings, ring, events, node, dirty)
        node = events[node, AFTER]


@njit(cache=True)
def _free_ring(slots: Ints, slot: int, rings: Ints, dirty: Bytes, counters: Ints) -> None:
    ring = slots[slot, RING]
    if ring == NONE:
        return
    rings[ring * RING_STEPS, 0] = counters[RINGS_FREE]
    dirty[RING_BLOCKS, (ring * RING_STEPS) >> BLOCK_SHIFT] = 1
    counters[RINGS_FREE] = ring
    counters[RINGS_LIVE] -= 1
    slots[slot, RING] = NONE


@njit(cache=True)
def _index(rings: Ints, ring: int, events: Ints, node: int, dirty: Bytes) -> None:
    """Note an event that stands in its place in the list."""
    step = events[node, TIME] >> RING_STEP_SHIFT
    row = _ring_row(ring, step)
    after = events[node, AFTER]
    if after == NONE or events[after, TIME] >> RING_STEP_SHIFT != step:
        rings[row, RING_NEWEST] = node
    rings[row, RING_COUNT] += 1
    rings[row, RING_SUM] += events[node, AMOUNT]
    dirty[RING_BLOCKS, row >> BLOCK_SHIFT] = 1


@njit(cache=True)
def _unindex(rings: Ints, ring: int, time: int, amount: int, newest_time: int, dirty: Bytes) -> None:
    """Take out an event, unless its step has made room for a newer one."""
    step = time >> RING_STEP_SHIFT
    if step > (newest_time >> RING_STEP_SHIFT) - RING_STEPS:
        row = _ring_row(ring, step)
        rings[row, RING_COUNT] -= 1
        rings[row, RING_SUM] -= amount
        dirty[RING_BLOCKS, row >> BLOCK_SHIFT] = 1


@njit(cache=True)
def _advance(rings: Ints, ring: int, old_newest: int, new_newest: int, dirty: Bytes) -> None:
    """Clear the steps that time has entered."""
    step = new_newest >> RING_STEP_SHIFT
    entered = min(step - (old_newest >> RING_STEP_SHIFT), RING_STEPS)
    for back in range(entered):
        row = _ring_row(ring, step - back)
        rings[row, RING_COUNT] = 0
        rings[row, RING_SUM] = 0
        dirty[RING_BLOCKS, row >> BLOCK_SHIFT] = 1


@njit(cache=True)
def _start_of_walk(slots: Ints, slot: int, events: Ints, rings: Ints, time: int) -> int:
    """Return the newest event in the step of `time` or in the last one before it that has any, or NONE."""
    oldest_step = events[slots[slot, OLDEST], TIME] >> RING_STEP_SHIFT
    step = time >> RING_STEP_SHIFT
    while step >= oldest_step:
        row = _ring_row(slots[slot, RING], step)
        if rings[row, RING_COUNT] > 0:
            return int(rings[row, RING_NEWEST])
        step -= 1
    return NONE


@njit(cache=True)
def _indexed(slots: Ints, slot: int, events: Ints, rings: Ints, after: int, until: int) -> tuple[int, int]:
    """Return count and sum in (after, until], where `until` is earlier than the slot's newest event."""
    ring = slots[slot, RING]
    oldest_step = events[slots[slot, OLDEST], TIME] >> RING_STEP_SHIFT
    first, last = after >> RING_STEP_SHIFT, until >> RING_STEP_SHIFT
    count, total = 0, 0
    for step in range(max(first, oldest_step), last + 1):
        row = _ring_row(ring, step)
        if rings[row, RING_COUNT] == 0:
            continue
        if first < step < last:
            count += rings[row, RING_COUNT]
            total += rings[row, RING_SUM]
            continue
        node = rings[row, RING_NEWEST]
        for _ in range(rings[row, RING_COUNT]):
            if after < events[node, TIME] <= until:
                count += 1
                total += events[node, AMOUNT]
            node = events[node, BEFORE]
    return count, total


# Buckets


@njit(cache=True)
def _add_bucket(
    slots: Ints,
    slot: int,
    chain: int,
    buckets: Ints,
    dirty: Bytes,
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
        counters[BUCKETS_LIVE] += 1
        buckets[node, START] = start
        buckets[node, COUNT] = 0
        buckets[node, SUM] = 0
        buckets[node, OLDER] = older
        if newer == NONE:
            slots[slot, chain] = node
        else:
            buckets[newer, OLDER] = node
            dirty[BUCKET_BLOCKS, newer >> BLOCK_SHIFT] = 1
        _drop_old_buckets(slots[slot, chain], buckets, dirty, counters, keep)
    buckets[node, COUNT] += 1
    buckets[node, SUM] += amount
    dirty[BUCKET_BLOCKS, node >> BLOCK_SHIFT] = 1


@njit(cache=True)
def _drop_old_buckets(head: int, buckets: Ints, dirty: Bytes, counters: Ints, keep: int) -> None:
    limit = buckets[head, START] - keep
    last = head
    node = buckets[head, OLDER]
    while node != NONE and buckets[node, START] > limit:
        last = node
        node = buckets[node, OLDER]
    if node == NONE:
        return
    buckets[last, OLDER] = NONE
    dirty[BUCKET_BLOCKS, last >> BLOCK_SHIFT] = 1
    while node != NONE:
        node = _free_bucket(buckets, node, dirty, counters)


@njit(cache=True)
def _free_bucket(buckets: Ints, node: int, dirty: Bytes, counters: Ints) -> int:
    """Give one bucket back; return the older one."""
    older = buckets[node, OLDER]
    buckets[node, OLDER] = counters[BUCKETS_FREE]
    dirty[BUCKET_BLOCKS, node >> BLOCK_SHIFT] = 1
    counters[BUCKETS_FREE] = node
    counters[BUCKETS_LIVE] -= 1
    return int(older)


# Copying


@njit(cache=True, nogil=True)
def copy_blocks(source: Ints, target: Ints, marks: Bytes, first: int, at_most: int) -> tuple[int, int]:
    """Copy up to `at_most` marked blocks from block `first` on and unmark them; return how many, and where to go on.

    `marks` is a row of `dirty`. The last block may be shorter.
    """
    copied, block = 0, first
    blocks = (source.shape[0] + BLOCK - 1) >> BLOCK_SHIFT
    while block < blocks and copied < at_most:
        if marks[block] != 0:
            marks[block] = 0
            copied += 1
            for row in range(block << BLOCK_SHIFT, min((block + 1) << BLOCK_SHIFT, source.shape[0])):
                for column in range(source.shape[1]):
                    target[row, column] = source[row, column]
        block += 1
    return copied, block
