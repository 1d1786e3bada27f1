"""How many mails are sent at a time, given how the mail server behaves. Pure: the caller passes the time."""

WAKE_AFTER = 2


class Pace:
    """While the mail server cannot be reached, one mail at a time is tried, with growing pauses.

    Trouble with a single mail pauses nobody else. The first success after several failures in a row, or after the
    start of the process, says that every mail that waits should be tried at once.
    """

    def __init__(self, *, lanes: int) -> None:
        self._lanes = lanes
        self._failures = WAKE_AFTER
        self._unreachable = 0
        self._paused_until = float("-inf")

    @property
    def unreachable(self) -> int:
        """How often in a row the server could not be reached."""
        return self._unreachable

    def lanes(self, now: float) -> int:
        """Return how many mails may be under way at `now`, in seconds of any clock that is never set back."""
        if now < self._paused_until:
            return 0
        return 1 if self._unreachable else self._lanes

    def not_reached(self, now: float, *, pause_s: float) -> None:
        """Note that the server could not be reached; nothing is tried for a while.

        Mails that were tried together fail together: during a pause they neither count nor make it longer.
        """
        self._failures += 1
        if now >= self._paused_until:
            self._unreachable += 1
            self._paused_until = now + pause_s

    def not_taken(self) -> None:
        """Note that the server was there but did not take a mail."""
        self._failures += 1
        self._reached()

    def taken(self) -> bool:
        """Note that the server took a mail; return whether all that wait should be tried now."""
        wake = self._failures >= WAKE_AFTER
        self._failures = 0
        self._reached()
        return wake

    def _reached(self) -> None:
        self._unreachable = 0
        self._paused_until = float("-inf")
