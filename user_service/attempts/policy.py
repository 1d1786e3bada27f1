"""How often something secret may be guessed, and what follows (pure)."""

from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network, ip_address

from user_service.times import DAY_MS, MINUTE_MS

WINDOW_MS = 30 * MINUTE_MS
CODE_WINDOW_MS = 7 * DAY_MS  # six digits: whoever has the password and time enough would hit them
FIRST_LOCK_MS = 30 * MINUTE_MS
MEMORY_MS = DAY_MS
_MOST_DOUBLINGS = 16

PER_MINUTE = 5  # failures that make nobody wait
_PACE_MS = MINUTE_MS // PER_MINUTE
_SLACK_MS = 1_000  # requests that came together are counted in another order
FIRST_WAIT_MS = 5_000
LONGEST_WAIT_MS = MINUTE_MS

KNOWN_MS = 30 * DAY_MS  # for how long an address is known after a login
MOST_KNOWN = 20  # addresses of one account


class Counted(StrEnum):
    """What failures are counted of."""

    ACCOUNT = "account"  # over all addresses
    PLACE = "place"  # one account at one address
    CODES = "codes"  # of an account, shown with its right password, over all addresses
    CODES_AT_PLACE = "codes_at_place"  # the same at one address
    ADDRESS = "address"  # over all accounts
    SESSION = "session"  # what somebody who is logged in shows once more


@dataclass(frozen=True, slots=True)
class Bound:
    """Every so many failures within a window lock, each time twice as long, up to a longest time."""

    failures: int
    longest_lock_ms: int
    window_ms: int = WINDOW_MS


ACCOUNT = Bound(10, longest_lock_ms=DAY_MS)
CODE = Bound(10, longest_lock_ms=CODE_WINDOW_MS, window_ms=CODE_WINDOW_MS)
ADDRESS = Bound(100, longest_lock_ms=FIRST_LOCK_MS)  # many people may share one
BOUNDS = {
    Counted.ACCOUNT: ACCOUNT,
    Counted.PLACE: ACCOUNT,
    Counted.CODES: CODE,
    Counted.CODES_AT_PLACE: CODE,
    Counted.ADDRESS: ADDRESS,
    Counted.SESSION: CODE,
}


@dataclass(frozen=True, slots=True)
class Guessed:
    """What is guessed of an account: as what it counts over all addresses, and at one."""

    over_all: Counted
    at_place: Counted


PASSWORDS = Guessed(Counted.ACCOUNT, Counted.PLACE)
CODES = Guessed(Counted.CODES, Counted.CODES_AT_PLACE)


def is_closed_to(counted: Counted, *, known: bool) -> bool:
    """Say whether a lock of this kind holds for somebody at an address that is `known` of the account, or is not.

    At a known address only the failures of that account at that address count, so that strangers lock its owner out
    neither by its name nor by the address that they share.
    """
    return not known or counted not in {Counted.ACCOUNT, Counted.CODES, Counted.ADDRESS}


@dataclass(frozen=True, slots=True)
class Tally:
    """The failures since `first_at_ms`, until when the last of them locked, and how fast they came.

    `paced_until_ms` is further ahead the faster they come: each takes it on by a fifth of a minute. Beyond a minute,
    nothing is tried until `waits_until_ms`.

    Of those at one address, `on_account` are also among the failures of the account that are counted since
    `on_account_since_ms`: the others came while it was locked.
    """

    failures: int
    first_at_ms: int
    locked_until_ms: int
    paced_until_ms: int = 0
    waits_until_ms: int = 0
    on_account: int = 0
    on_account_since_ms: int = 0
    window_ms: int = WINDOW_MS

    @property
    def refused_until_ms(self) -> int:
        """Return until when nothing is tried."""
        return max(self.locked_until_ms, self.waits_until_ms)

    def is_locked(self, *, now_ms: int) -> bool:
        """Say whether so much has failed that it is locked now."""
        return now_ms < self.locked_until_ms

    def is_old(self, *, now_ms: int) -> bool:
        """Say whether it counts no more: a window after the first failure, a day or as long after a lock."""
        if self.locked_until_ms:
            return now_ms >= self.locked_until_ms + max(MEMORY_MS, self.window_ms)
        return now_ms >= self.first_at_ms + self.window_ms


def after_failure(seen: Tally, bound: Bound, *, now_ms: int) -> Tally:
    """Return `seen` with one more failure, which no account counts (`also_on`)."""
    paced_until_ms = min(max(seen.paced_until_ms, now_ms) + _PACE_MS, now_ms + 2 * MINUTE_MS)
    wait_ms = _wait_ms(paced_until_ms - now_ms)
    waits_until_ms = max(now_ms + wait_ms, seen.waits_until_ms) if wait_ms else 0
    if seen.is_old(now_ms=now_ms):
        seen = Tally(0, now_ms, 0)
    failures = seen.failures + 1
    locked_until_ms = seen.locked_until_ms
    if failures % bound.failures == 0:
        doublings = min(failures // bound.failures - 1, _MOST_DOUBLINGS)
        locked_until_ms = now_ms + min(FIRST_LOCK_MS * 2**doublings, bound.longest_lock_ms)
    return replace(
        seen,
        failures=failures,
        locked_until_ms=locked_until_ms,
        paced_until_ms=paced_until_ms,
        waits_until_ms=waits_until_ms,
        window_ms=bound.window_ms,
    )


def also_on(account: Tally, place: Tally) -> Tally:
    """Return the tally of a place whose last failure is counted in that of its account as well."""
    before = place.on_account if place.on_account_since_ms == account.first_at_ms else 0
    return replace(place, on_account=before + 1, on_account_since_ms=account.first_at_ms)


def _wait_ms(ahead_ms: int) -> int:
    """Return how long to wait: nothing up to five failures a minute, then twice as long for each beyond."""
    too_many = -((MINUTE_MS + _SLACK_MS - ahead_ms) // _PACE_MS)
    return min(FIRST_WAIT_MS * 2 ** (too_many - 1), LONGEST_WAIT_MS) if too_many > 0 else 0


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
