"""The velocity state in this process: observed transaction by transaction, copied for snapshots."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import starmap
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ai_service.features import kernel
from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.copying import StateCopier
from ai_service.features.state import StateArrays, Unsaved, VelocityState, empty_state
from ai_service.features.velocity import Entity, Reading, VelocityReading
from common.contracts.geoip import GeoLocation

Located = tuple[AcceptedTransaction, GeoLocation]
Name = tuple[str, str]
"""An institution and the id of one of its transactions."""
MAX_UNSAVED = 100_000
_SHAPE = (len(Entity), len(Reading))
_NAN = float("nan")


class VelocityStore(Protocol):
    """Counts transactions by entity and window, each once, however often and wherever it is observed."""

    async def observe_all(self, waiting: Sequence[Located]) -> list[VelocityReading]:
        """Return what was known before each transaction, and count it, in this order.

        Raises what one of them raises; what was counted by then is read as before when it is observed again.
        """
        ...

    def saved(self, names: Sequence[Name]) -> None:
        """Note that the decisions about these transactions are durable: their readings are asked for no more."""
        ...


class EmbeddedVelocity:
    """The velocity state of this process; `observe` reads and adds in one step.

    A transaction is counted once, however often it is observed. Until `saved` is told of it, a repeated
    observation returns the first reading again, so that a retry is scored as the first try was; also when the
    process was started again in between.
    """

    def __init__(self, begin: StateArrays | None = None) -> None:
        begin = begin or empty_state()
        self._state = VelocityState(begin)
        self._sequences = dict(begin.sequences)
        self._unsaved = OrderedDict(begin.unsaved)
        self._lock = threading.Lock()

    def observe(self, accepted: AcceptedTransaction, location: GeoLocation) -> VelocityReading:
        """Return what was known before `accepted`, then count it, unless it is older than the longest window."""
        transaction, institution_id = accepted.transaction, accepted.institution.institution_id
        name = institution_id, transaction.transaction_id
        with self._lock:
            unsaved = self._unsaved.get(name)
            if unsaved is not None and _is_of(unsaved, transaction.body):
                return unsaved.reading
            # the first try failed, and this is another transaction by that id
            again = unsaved is not None
            answer, values = self._observe(accepted, location, again=again)
            sequence = self._sequences.get(institution_id, 0) + 1
            self._sequences[institution_id] = sequence
            reading = VelocityReading(values, sequence, answer != kernel.TOO_OLD)
            if answer == kernel.ADDED:
                self._unsaved[name] = Unsaved(transaction.body, False, reading)
                if len(self._unsaved) > MAX_UNSAVED:
                    self._unsaved.popitem(last=False)
            return reading

    async def observe_all(self, waiting: Sequence[Located]) -> list[VelocityReading]:
        """Return the reading of each, without ever waiting."""
        return list(starmap(self.observe, waiting))

    def saved(self, names: Sequence[Name]) -> None:
        """Forget the readings of transactions whose decisions are durable now."""
        with self._lock:
            for name in names:
                self._unsaved.pop(name, None)

    def restore(
        self, accepted: AcceptedTransaction, location: GeoLocation, *, observed_sequence: int
    ) -> None:
        """Count a decided transaction again after a restart, unless the snapshot already holds it."""
        institution_id = accepted.institution_id
        with self._lock:
            self._observe(accepted, location, again=False)
            self._unsaved.pop((institution_id, accepted.transaction.transaction_id), None)
            self._sequences[institution_id] = max(self._sequences.get(institution_id, 0), observed_sequence)

    def copy_state(self) -> StateArrays:
        """Return the state of one moment, for a snapshot; others may observe meanwhile, so run it in a thread."""
        copier = StateCopier(self._state, self._lock)
        copier.catch_up()
        with self._lock:
            arrays = copier.finish()
            counters = self._state.counters.copy()
            sequences, unsaved = dict(self._sequences), list(self._unsaved.items())
        return StateArrays(
            **arrays,
            counters=counters,
            sequences=sequences,
            unsaved={
                name: each if each.is_digest else Unsaved(_digest(each.body), True, each.reading)
                for name, each in unsaved
            },
        )

    def sizes(self) -> Mapping[str, int]:
        """Return how much is kept: entities, transactions, events, buckets, rings; and how much was evicted."""
        return self._state.sizes()

    def _observe(
        self, accepted: AcceptedTransaction, location: GeoLocation, *, again: bool
    ) -> tuple[int, NDArray[np.int64]]:
        names, values = _names(accepted), np.empty(_SHAPE, np.int64)
        event_time, received_at = accepted.event_time_us, accepted.received_at_us
        latitude, longitude = location.latitude, location.longitude
        while True:
            answer = self._state.observe(
                names,
                event_time,
                received_at,
                accepted.amount_base_minor or 0,
                _NAN if latitude is None else latitude,
                _NAN if longitude is None else longitude,
                again,
                values,
            )
            if answer != kernel.NEEDS_ROOM:
                return answer, values
            self._state.make_room(received_at=received_at)


def _is_of(unsaved: Unsaved, body: bytes) -> bool:
    return unsaved.body == (_digest(body) if unsaved.is_digest else body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _names(accepted: AcceptedTransaction) -> bytes:
    """Return the names the kernel makes keys of; identifiers hold no control characters, so NUL separates safely."""
    transaction = accepted.transaction
    method, address = transaction.payment_method, transaction.ip_address
    card = "" if method is None else method.card_token or ""
    return (
        f"{accepted.institution.institution_id}\0{transaction.transaction_id}\0{transaction.customer_id}\0{card}\0"
        f"{transaction.device_id or ''}\0{'' if address is None else address_name(address)}\0"
        f"{transaction.merchant_id or ''}\0{transaction.counterparty_id or ''}"
    ).encode()


def address_name(address: IPv4Address | IPv6Address) -> str:
    """Return a short name for an address; an IPv4 one has at most eight digits."""
    return f"{int(address):x}" if address.version == 4 else f"{int(address):032x}"


def warm_up() -> None:
    """Compile the kernels, so that the first transaction does not wait for it."""
    state = VelocityState(empty_state())
    values = np.empty(_SHAPE, dtype=np.int64)
    for number in range(2):
        state.observe(f"i\0{number}\0customer\0card\0\0\0\0".encode(), 1, 1, 0, _NAN, _NAN, False, values)
    StateCopier(state, threading.Lock()).finish()
    kernel.rehash(state.used_rows("table"), np.zeros_like(state.used_rows("table")), 0)
    kernel.count_from(state.used_rows("seen"), 0)
