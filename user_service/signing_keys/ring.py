"""The keys that sign tokens, in memory: one signs, those before and after it are published beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from common.auth.principal import UnauthenticatedError
from common.auth.signing import SigningKey, public_jwk
from common.clock import epoch_ms
from user_service.signing_keys.schedule import KeyTimes


@dataclass(frozen=True, slots=True)
class RingKey:
    """An unlocked key, its public half, and its times."""

    key: SigningKey = field(repr=False)
    public: Mapping[str, str]
    times: KeyTimes

    @classmethod
    def of(cls, key: SigningKey, times: KeyTimes) -> "RingKey":
        """Return the unlocked `key` with its public half."""
        return cls(key, public_jwk(key), times)


class KeyRing:
    """The keys, newest first; also where this service looks up keys for its own verifier.

    Which key signs and which ones are published follows from the clock alone: a rotation is known long before it
    takes place.
    """

    def __init__(self, keys: Sequence[RingKey], *, clock: Callable[[], int] = epoch_ms) -> None:
        self._clock = clock
        self.replace(keys)

    def replace(self, keys: Sequence[RingKey]) -> None:
        """Take over what the database says now."""
        self.keys = tuple(keys)
        self._by_id = {ring_key.key.kid: ring_key for ring_key in self.keys}

    def signing(self, now_ms: int) -> SigningKey:
        """Return the newest key that may sign; one that waits, if another process' clock is ahead of ours."""
        may_sign = (ring_key for ring_key in self.keys if ring_key.times.may_sign(now_ms))
        return next(may_sign, self.keys[0]).key

    def published(self, now_ms: int) -> tuple[Mapping[str, str], ...]:
        """Return the public keys whose tokens are good, or will be."""
        return tuple(ring_key.public for ring_key in self.keys if ring_key.times.is_published(now_ms))

    def has(self, kid: str) -> bool:
        """Say whether tokens that `kid` signed are good."""
        found = self._by_id.get(kid)
        return found is not None and found.times.is_published(self._clock())

    async def find(self, kid: str) -> Mapping[str, str]:
        """Return the public key named `kid`; raises `UnauthenticatedError`."""
        if not self.has(kid):
            raise UnauthenticatedError
        return self._by_id[kid].public

    async def is_loaded(self) -> bool:
        """Readiness: whether tokens can be signed."""
        return bool(self.keys)
