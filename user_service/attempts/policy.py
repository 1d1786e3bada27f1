"""How often something secret may be guessed, and what follows (pure)."""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

MINUTE_MS = 60_000
WINDOW_MS = 30 * MINUTE_MS
FIRST_LOCK_MS = 30 * MINUTE_MS
MEMORY_MS = 24 * 60 * MINUTE_MS
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Bound:
    """Every so many failures lock, each time twice as long, up to a longest time."""

    failures: int
    longest_lock_ms: int


ACCOUNT = Bound(10, longest_lock_ms=24 * 60 * MINUTE_MS)
ADDRESS = Bound(100, longest_lock_ms=FIRST_LOCK_MS)  # many people may share one


@dataclass(frozen=True, slots=True)
class Tally:
    """The failures since `first_at_ms`, and until when the last of them locked."""

    failures: int
    first_at_ms: int
    locked_until_ms: int

    def is_locked(self, *, now_ms: int) -> bool:
        """Say whether nothing is tried now."""
        return now_ms < self.locked_until_ms

    def is_old(self, *, now_ms: int) -> bool:
        """Say whether it counts no more: half an hour after the first failure, a day after a lock."""
        if self.locked_until_ms:
            return now_ms >= self.locked_until_ms + MEMORY_MS
        return now_ms >= self.first_at_ms + WINDOW_MS


def after_failure(seen: Tally, bound: Bound, *, now_ms: int) -> Tally:
    """Return `seen` with one more failure."""
    if seen.is_old(now_ms=now_ms):
        seen = Tally(0, now_ms, 0)
    failures = seen.failures + 1
    if failures % bound.failures:
        return Tally(failures, seen.first_at_ms, seen.locked_until_ms)
    doublings = min(failures // bound.failures - 1, _MOST_DOUBLINGS)
    lock_ms = min(FIRST_LOCK_MS * 2**doublings, bound.longest_lock_ms)
    return Tally(failures, seen.first_at_ms, now_ms + lock_ms)


def address_group(address: str) -> str:
    """Return the addresses that count as one: an IPv4 address, or the /64 that an IPv6 subscriber is given."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)
