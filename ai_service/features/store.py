"""The velocity state in this process: typed arrays that grow, and a snapshot of them."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ai_service.features import kernel
from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.velocity import LONGEST_WINDOW_US, Entity, Reading, VelocityReading
from common.contracts.geoip import GeoLocation
from common.contracts.transactions import Transaction

STATE_VERSION = 1
MAX_UNSAVED = 100_000
_FIRST_ROWS = 1 << 12
_MAX_LOAD = 0.6
_NO_PLACE = np.zeros(3, dtype=np.int64)
_ENTITIES = len(Entity)


@dataclass
class StateArrays:
    """Everything a snapshot holds; all arrays are int64."""

    table: NDArray[np.int64]
    slots: NDArray[np.int64]
    events: NDArray[np.int64]
    buckets: NDArray[np.int64]
    seen: NDArray[np.int64]
    counters: NDArray[np.int64]
    sequences: dict[str, int] = field(default_factory=dict)


def empty_state() -> StateArrays:
    """Return the state of a store that has seen nothing."""
    counters = np.zeros(kernel.COUNTERS, dtype=np.int64)
    counters[kernel.EVENTS_FREE] = counters[kernel.BUCKETS_FREE] = kernel.NONE
    return StateArrays(
        table=np.zeros((_FIRST_ROWS, 2), dtype=np.int64),
        slots=np.zeros((_FIRST_ROWS, kernel.SLOT_COLUMNS), dtype=np.int64),
        events=np.zeros((_FIRST_ROWS, 4), dtype=np.int64),
        buckets=np.zeros((_FIRST_ROWS, 4), dtype=np.int64),
        seen=np.zeros((_FIRST_ROWS, 2), dtype=np.int64),
        counters=counters,
    )


class VelocityStore:
    """Counts transactions by entity and window; `observe` reads and adds in one step.

    A transaction is counted once, however often it is observed. Until `saved` is told of it, a repeated
    observation returns the first reading again, so that a retry is scored as the first try was.
    """

    def __init__(self, state: StateArrays | None = None) -> None:
        self._state = state or empty_state()
        self._unsaved: OrderedDict[int, tuple[bytes, VelocityReading]] = OrderedDict()
        self._lock = threading.Lock()

    def observe(self, accepted: AcceptedTransaction, location: GeoLocation) -> VelocityReading:
        """Return what was known before `accepted`, then count it, unless it is older than the longest window."""
        transaction_key = _key(accepted.institution_id, "transaction", accepted.transaction.transaction_id)
        with self._lock:
            body, known = self._unsaved.get(transaction_key, (b"", None))
            if known is not None and body == accepted.transaction.body:
                return known
            counted = accepted.received_at_us - accepted.event_time_us < LONGEST_WINDOW_US
            is_new = self._note_seen(transaction_key, accepted) if counted else False
            is_new |= known is not None  # the first try failed, and this is another transaction by that id
            values = self._observe(accepted, location, add=counted and is_new)
            reading = VelocityReading(values, self._next_sequence(accepted.institution_id), counted)
            if is_new:
                self._unsaved[transaction_key] = (accepted.transaction.body, reading)
                if len(self._unsaved) > MAX_UNSAVED:
                    self._unsaved.popitem(last=False)
            return reading

    def saved(self, institution_id: str, transaction_ids: Sequence[str]) -> None:
        """Forget the readings of transactions whose decisions are durable now."""
        for transaction_id in transaction_ids:
            self._unsaved.pop(_key(institution_id, "transaction", transaction_id), None)

    def restore(
        self, accepted: AcceptedTransaction, location: GeoLocation, *, observed_sequence: int
    ) -> None:
        """Count a decided transaction again after a restart, unless the snapshot already holds it."""
        with self._lock:
            transaction_key = _key(
                accepted.institution_id, "transaction", accepted.transaction.transaction_id
            )
            counted = accepted.received_at_us - accepted.event_time_us < LONGEST_WINDOW_US
            if counted and self._note_seen(transaction_key, accepted):
                self._observe(accepted, location, add=True)
            sequences = self._state.sequences
            sequences[accepted.institution_id] = max(
                sequences.get(accepted.institution_id, 0), observed_sequence
            )

    def copy_state(self) -> StateArrays:
        """Return a copy of everything, for a snapshot."""
        with self._lock:
            state, used = self._state, self._state.counters
            return StateArrays(
                table=state.table.copy(),
                slots=state.slots[: used[kernel.SLOTS_USED]].copy(),
                events=state.events[: used[kernel.EVENTS_USED]].copy(),
                buckets=state.buckets[: used[kernel.BUCKETS_USED]].copy(),
                seen=state.seen.copy(),
                counters=used.copy(),
                sequences=dict(state.sequences),
            )

    def _observe(
        self, accepted: AcceptedTransaction, location: GeoLocation, *, add: bool
    ) -> NDArray[np.int64]:
        if add:
            self._make_room()
        state = self._state
        values = np.empty((_ENTITIES, len(Reading)), dtype=np.int64)
        kernel.observe(
            _entity_keys(accepted),
            accepted.event_time_us,
            accepted.amount_base_minor or 0,
            _place(location),
            add,
            state.table,
            state.slots,
            state.events,
            state.buckets,
            state.counters,
            values,
        )
        return values

    def _note_seen(self, transaction_key: int, accepted: AcceptedTransaction) -> bool:
        """Return whether the transaction is new, and remember it until it leaves the longest window."""
        state = self._state
        row = kernel.find(state.seen, transaction_key)
        if state.seen[row, 0] == transaction_key:
            return False
        state.seen[row] = (transaction_key, accepted.event_time_us)
        state.counters[kernel.SEEN_USED] += 1
        if state.counters[kernel.SEEN_USED] > _MAX_LOAD * len(state.seen):
            oldest = accepted.received_at_us - LONGEST_WINDOW_US
            bigger = np.zeros((2 * len(state.seen), 2), dtype=np.int64)
            state.counters[kernel.SEEN_USED] = kernel.rehash(state.seen, bigger, oldest)
            state.seen = bigger
        return True

    def _next_sequence(self, institution_id: str) -> int:
        number = self._state.sequences.get(institution_id, 0) + 1
        self._state.sequences[institution_id] = number
        return number

    def _make_room(self) -> None:
        """Double whatever could overflow while one transaction is added."""
        state, used = self._state, self._state.counters
        if used[kernel.TABLE_USED] + _ENTITIES > _MAX_LOAD * len(state.table):
            bigger = np.zeros((2 * len(state.table), 2), dtype=np.int64)
            kernel.rehash(state.table, bigger, 0)
            state.table = bigger
        state.slots = _with_room(state.slots, used[kernel.SLOTS_USED] + _ENTITIES)
        state.events = _with_room(state.events, used[kernel.EVENTS_USED] + _ENTITIES)
        state.buckets = _with_room(state.buckets, used[kernel.BUCKETS_USED] + 2 * _ENTITIES)


def _with_room(rows: NDArray[np.int64], needed: int) -> NDArray[np.int64]:
    if needed <= len(rows):
        return rows
    bigger = np.zeros((max(2 * len(rows), needed, _FIRST_ROWS), rows.shape[1]), dtype=np.int64)
    bigger[: len(rows)] = rows
    return bigger


def _entity_keys(accepted: AcceptedTransaction) -> NDArray[np.int64]:
    """Return one 64-bit key per entity, 0 where the transaction does not name it."""
    transaction, institution = accepted.transaction, accepted.institution_id
    named = _named_entities(transaction)
    keys = np.zeros(_ENTITIES, dtype=np.int64)
    for entity, value in named.items():
        if value:
            keys[entity] = _key(institution, entity.name, value)
    return keys


def _named_entities(transaction: Transaction) -> dict[Entity, str | None]:
    customer, method = transaction.customer_id, transaction.payment_method
    return {
        Entity.CUSTOMER: customer,
        Entity.CARD: method.card_token if method else None,
        Entity.DEVICE: transaction.device_id,
        Entity.IP: str(transaction.ip_address) if transaction.ip_address else None,
        Entity.MERCHANT: transaction.merchant_id,
        Entity.COUNTERPARTY: transaction.counterparty_id,
        Entity.CUSTOMER_DEVICE: _pair(customer, transaction.device_id),
        Entity.CUSTOMER_MERCHANT: _pair(customer, transaction.merchant_id),
        Entity.CUSTOMER_COUNTERPARTY: _pair(customer, transaction.counterparty_id),
    }


def _pair(left: str, right: str | None) -> str | None:
    return f"{left}\0{right}" if right else None


def _key(*parts: str) -> int:
    """Return a non-zero signed 64-bit key; identifiers hold no control characters, so NUL separates safely."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def _place(location: GeoLocation) -> NDArray[np.int64]:
    if location.latitude is None or location.longitude is None:
        return _NO_PLACE
    return np.array([1, round(location.latitude * 1e6), round(location.longitude * 1e6)], dtype=np.int64)


def warm_up() -> None:
    """Compile the kernels, so that the first transaction does not wait for it."""
    state = empty_state()
    values = np.empty((_ENTITIES, len(Reading)), dtype=np.int64)
    keys = np.arange(1, _ENTITIES + 1, dtype=np.int64)
    for time in (0, 1):
        kernel.observe(
            keys, time, 0, _NO_PLACE, True, state.table, state.slots, state.events, state.buckets,
            state.counters, values,
        )  # fmt: skip
    kernel.rehash(state.table, np.zeros_like(state.table), 0)
