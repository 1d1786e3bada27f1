"""The names of the velocity state in Valkey, and the words its function takes. Pure.

All keys of an institution are in one slot of a cluster. What transactions name is hashed: identifiers of people are
not readable there, and keys are short.
"""

import struct
from hashlib import blake2b

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.store import address_name
from ai_service.features.velocity import Entity
from common.contracts.geoip import GeoLocation

FORM = "v1"
"""The form of the state; one that other releases could not read gets another number, and is counted from anew."""
OBSERVE, COUNT, RESTORE = range(3)
_HASH_BYTES = 16
_WORDS = struct.Struct("<B3QqBiiH16s")


class InstitutionKeys:
    """The keys of one institution; those below a generation are of one counting of everything."""

    def __init__(self, institution_id: str) -> None:
        self._prefix = f"assay:{{{institution_id}}}:velocity:{FORM}:".encode()
        self._secret = institution_id.encode()[:64]
        self.state = self._prefix + b"state"
        self.lease = self._prefix + b"lease"

    def everything_of(self, generation: bytes) -> bytes:
        """Return a pattern of all keys below `generation`."""
        return self._prefix + generation + b":*"

    def unsaved(self, generation: bytes, transaction_id: str) -> bytes:
        """Return where the reading of a transaction is kept until its decision is durable."""
        return self._prefix + generation + b":u" + self._hash(transaction_id)

    def of(self, generation: bytes, accepted: AcceptedTransaction) -> tuple[list[bytes], int]:
        """Return the keys of one call, those of named entities last, and which entities are named, one bit for each."""
        below = self._prefix + generation + b":"
        transaction = self._hash(accepted.transaction.transaction_id)
        keys, mask = [self.state, below + b"s" + transaction, below + b"u" + transaction], 0
        for entity, name in _names(accepted):
            keys.append(below + b"e" + self._hash(f"{entity}\0{name}"))
            mask |= 1 << entity
        return keys, mask

    def _hash(self, name: str) -> bytes:
        return blake2b(name.encode(), digest_size=_HASH_BYTES, key=self._secret).digest()


def words(
    accepted: AcceptedTransaction, location: GeoLocation, *, mode: int, mask: int, as_of_us: int
) -> bytes:
    """Return a transaction as integers; coordinates are millionths of degrees, rounded as the kernel does.

    `as_of_us` is from when on keys are kept.
    """
    latitude, longitude = location.latitude, location.longitude
    has_place = latitude is not None and longitude is not None
    return _WORDS.pack(
        mode,
        accepted.event_time_us,
        accepted.received_at_us,
        as_of_us,
        accepted.amount_base_minor or 0,
        has_place,
        round(latitude * 1e6) if latitude is not None and has_place else 0,
        round(longitude * 1e6) if longitude is not None and has_place else 0,
        mask,
        blake2b(accepted.transaction.body, digest_size=_HASH_BYTES).digest(),
    )


def _names(accepted: AcceptedTransaction) -> list[tuple[Entity, str]]:
    """Return the entities that a transaction names; identifiers hold no control characters, so NUL separates safely."""
    transaction = accepted.transaction
    method, address = transaction.payment_method, transaction.ip_address
    customer, device = transaction.customer_id, transaction.device_id
    merchant, counterparty = transaction.merchant_id, transaction.counterparty_id
    named = [
        (Entity.CUSTOMER, customer),
        (Entity.CARD, None if method is None else method.card_token),
        (Entity.DEVICE, device),
        (Entity.IP, None if address is None else address_name(address)),
        (Entity.MERCHANT, merchant),
        (Entity.COUNTERPARTY, counterparty),
        (Entity.CUSTOMER_DEVICE, device and f"{customer}\0{device}"),
        (Entity.CUSTOMER_MERCHANT, merchant and f"{customer}\0{merchant}"),
        (Entity.CUSTOMER_COUNTERPARTY, counterparty and f"{customer}\0{counterparty}"),
    ]
    return [(entity, name) for entity, name in named if name]
