"""When a signing key is published, signs, and is retired (pure). Times are milliseconds since 1970-01-01 UTC."""

from dataclasses import dataclass
from enum import StrEnum

from common.auth.gate import LEEWAY_S, MAX_LIFETIME_S
from user_service.times import DAY_MS

LEAD_MS = 180_000
"""From publishing to signing: every service fetches the keys nine times meanwhile (`common.auth.keys.REFRESH_S`)."""

OVERLAP_MS = (MAX_LIFETIME_S + LEEWAY_S) * 1000
"""From the last signature of a key to its end: as long as any token may live."""


class KeyState(StrEnum):
    """What a signing key is good for now."""

    WAITING = "waiting"  # published; it signs when every service has it
    SIGNING = "signing"
    RETIRING = "retiring"  # published; it signs no more
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """The times of one key. It is published from the moment it is made until it is retired."""

    created_at_ms: int
    signs_from_ms: int
    retired_at_ms: int | None = None

    def is_published(self, now_ms: int) -> bool:
        """Say whether tokens that this key signed are good."""
        return self.retired_at_ms is None or now_ms < self.retired_at_ms

    def may_sign(self, now_ms: int) -> bool:
        """Say whether this key signs unless a newer one may."""
        return self.is_published(now_ms) and self.signs_from_ms <= now_ms

    def state(self, now_ms: int, *, is_newest_that_may_sign: bool) -> KeyState:
        """Return what the key is good for."""
        if not self.is_published(now_ms):
            return KeyState.RETIRED
        if not self.may_sign(now_ms):
            return KeyState.WAITING
        return KeyState.SIGNING if is_newest_that_may_sign else KeyState.RETIRING


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new key takes over and the ones before it end."""

    signs_from_ms: int
    old_retired_at_ms: int


def plan_rotation(*, now_ms: int, at_once: bool) -> Rotation:
    """Return the times of a rotation that is begun now; `at_once` leaves no overlap, so every token dies."""
    if at_once:
        return Rotation(now_ms, now_ms)
    signs_from_ms = now_ms + LEAD_MS
    return Rotation(signs_from_ms, signs_from_ms + OVERLAP_MS)


def is_due(newest: KeyTimes, *, days: int, now_ms: int) -> bool:
    """Say whether the newest key is so old that it has to be replaced; 0 days: never."""
    return days > 0 and now_ms >= newest.created_at_ms + days * DAY_MS
