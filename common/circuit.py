"""Whether another service is worth calling: closed after it answered, open after it failed too often."""

import time
from collections import deque
from collections.abc import Callable

import structlog

from common.metrics import CIRCUIT_OPEN

_log = structlog.get_logger()


class Circuit:
    """Remembers whether calls to one other service are worth trying; a single probe while open.

    It opens after `failures_to_open` failures in a row, or, where `failing_share` is given, when that share of the
    last `of_last` calls failed. It belongs to one event loop; no method waits.
    """

    def __init__(
        self,
        name: str,
        *,
        failures_to_open: int = 5,
        probe_every_s: float = 5.0,
        failing_share: float | None = None,
        of_last: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._failures_to_open = failures_to_open
        self._probe_every_s = probe_every_s
        self._clock = clock
        self._failing_share = failing_share
        self._recent: deque[bool] = deque(maxlen=of_last)  # True is a failure
        self._failures = 0
        self._open = self._probing = False
        self._probe_at = 0.0
        self._failed_at = float("-inf")
        self._on_recovery: Callable[[], None] | None = None
        self._gauge = CIRCUIT_OPEN.labels(name)
        self._gauge.set(0)

    @property
    def is_open(self) -> bool:
        """Whether calls are not worth trying now."""
        return self._open

    @property
    def refuses(self) -> bool:
        """Whether `admits` would say no now; asking takes no probe."""
        return self._open and self._clock() < self._probe_at

    def on_recovery(self, told: Callable[[], None]) -> None:
        """Call `told` at every success that follows a failure."""
        self._on_recovery = told

    def admits(self) -> bool:
        """Whether to call now; while open that is true for one probe when it is due.

        A probe that is never reported (its caller was cancelled) is given up when the next one is due.
        """
        if not self._open:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probing = True
        self._probe_at = now + self._probe_every_s
        return True

    def succeeded(self) -> None:
        """Note that a call was answered as it should be; closes."""
        had_failed, self._failures = self._failures > 0, 0
        if self._open:
            self._set_open(is_open=False)
            self._recent.clear()
        elif self._failing_share is not None:
            self._recent.append(False)
        if had_failed and self._on_recovery is not None:
            self._on_recovery()

    def failed(self, *, together_since: float | None = None) -> None:
        """Note that a call failed; opens when that happened too often, a failed probe waits anew.

        Of calls that failed together, for a reason of our own, only the first counts: those that give as
        `together_since` (on this circuit's clock) when they began.
        """
        now = self._clock()
        if self._open:
            if self._probing:  # calls that began before it opened must not put the probe off
                self._probing = False
                self._probe_at = now + self._probe_every_s
            return
        if together_since is not None and together_since <= self._failed_at:
            return
        self._failed_at = now
        self._failures += 1
        self._recent.append(True)
        if self._failures >= self._failures_to_open or self._fails_often():
            self._probe_at = now + self._probe_every_s
            self._set_open(is_open=True)

    def _fails_often(self) -> bool:
        recent = self._recent
        if self._failing_share is None or len(recent) < (recent.maxlen or 0):
            return False
        return sum(recent) >= self._failing_share * len(recent)

    def _set_open(self, *, is_open: bool) -> None:
        self._open, self._probing = is_open, False
        self._gauge.set(int(is_open))
        if is_open:
            _log.warning("circuit.opened", circuit=self._name, failures=self._failures)
        else:
            _log.info("circuit.closed", circuit=self._name)
