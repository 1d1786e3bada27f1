"""What a sliding window says: how long to wait, and how answers put it (pure).

The header fields are those of draft-ietf-httpapi-ratelimit-headers-11: `RateLimit-Policy` names what is allowed (q in w
seconds), `RateLimit` what is left of it (r) and in how many seconds there is more (t); one item for each policy.
"""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `limit` requests in `seconds`; `name` is what answers and metrics call it."""

    name: str
    limit: int
    seconds: int

    @property
    def described(self) -> bytes:
        """Return the policy as an item of `RateLimit-Policy`."""
        return b'"%b";q=%d;w=%d' % (self.name.encode(), self.limit, self.seconds)

    def stated(self, *, left: int, reset_s: int) -> bytes:
        """Return what is left of it as an item of `RateLimit`."""
        return b'"%b";r=%d;t=%d' % (self.name.encode(), left, reset_s)


@dataclass(frozen=True, slots=True)
class Window:
    """Two windows that follow one another: the counts of both, and the seconds until the later one ends."""

    previous: int
    current: int
    ends_in_s: float

    def left(self, policy: Policy) -> int:
        """Return how many more are allowed now."""
        weighted = self.previous * self.ends_in_s / policy.seconds + self.current
        return max(0, policy.limit - int(weighted))

    def wait_s(self, policy: Policy) -> int:
        """Return whole seconds, at least 1, after which one more is allowed if none comes in between."""
        if self.current >= policy.limit:  # it has to end, and then to lose weight itself
            seconds = self.ends_in_s + policy.seconds * (1 - policy.limit / self.current)
        elif self.previous:
            seconds = self.ends_in_s - (policy.limit - self.current) * policy.seconds / self.previous
        else:
            seconds = 0.0
        return max(1, ceil(seconds))
