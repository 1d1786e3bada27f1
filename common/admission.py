"""Bounds the work that is begun, so that whoever is let in is answered in time and the others hear so at once.

In flight, time spent and rate belong together (Little's law): `in flight = rate * time`. So at most as many are let in
as are finished in `target_s`. More only fill a queue in which everybody misses the deadline; fewer, while nobody waits
too long, would leave the processor idle.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from prometheus_client import Counter, Gauge

from common.errors import OverloadedError
from common.metrics import follow

WINDOW_S: Final = 0.1
KEPT: Final = 0.5  # of what was measured, from one window to the next
GROWTH: Final = 2.0  # at most, from one window to the next
IN_FLIGHT = Gauge(
    "assay_admission_in_flight", "Requests that are being worked on.", ["work"], multiprocess_mode="livesum"
)
LIMIT = Gauge(
    "assay_admission_limit",
    "How many may be worked on at a time, as measured.",
    ["work"],
    multiprocess_mode="livesum",
)
REFUSED = Counter("assay_admission_refused_total", "Requests refused because too many were there.", ["work"])


class Admission:
    """Holds at most `limit` places; the limit follows what was measured, between `floor` and `most`.

    It falls when the work takes longer than `target_s`, also while nothing at all is finished, and rises when it is
    reached and the work is done sooner. For one event loop: it is not safe to share between threads.
    """

    def __init__(
        self,
        *,
        work: str,
        target_s: float = 0.12,
        floor: int = 128,
        start: int = 256,
        most: int = 1024,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._target_s = target_s
        self._most = most
        self._floor = min(floor, most)
        self._clock = clock
        self._place = _Place(self)
        self._refused = REFUSED.labels(work)
        self.limit = max(self._floor, min(start, most))
        self.in_flight = self._arrived = 0
        self._last = clock()
        self._window_ends = self._last + WINDOW_S
        self._waited_s = self._busy_s = self._done = (
            0.0  # summed over all in flight; with any in flight; how many
        )
        self._reached = False
        follow(IN_FLIGHT.labels(work), lambda: self.in_flight)
        follow(LIMIT.labels(work), lambda: self.limit)

    def place(self) -> AbstractContextManager[None]:
        """Hold a place while the block runs; entering raises `OverloadedError` when there is none."""
        return self._place

    def is_full(self) -> bool:
        """Say whether one more request would find no place."""
        self._measure()
        return max(self._arrived, self.in_flight) >= self.limit

    def arrive(self) -> bool:
        """Count a request from its headers until `depart`; False, and counted as refused, when it finds no place.

        So a whole burst that is read at once is not begun only because none of it has come as far as its place.
        """
        if self.is_full():
            self.note_refusal()
            return False
        self._arrived += 1
        return True

    def depart(self) -> None:
        """Forget a request that was answered or whose client went away."""
        self._arrived -= 1

    def enter(self) -> None:
        """Take a place, which `leave` gives back; raises `OverloadedError`."""
        self._measure()
        if self.in_flight >= self.limit:
            self.note_refusal()
            raise OverloadedError
        self.in_flight += 1

    def leave(self) -> None:
        """Give a place back."""
        self._measure()
        self.in_flight -= 1
        self._done += 1.0

    def note_refusal(self) -> None:
        """Count somebody who found no place."""
        self._reached = True
        self._refused.inc()

    def _measure(self) -> None:
        """Add up what happened since the last call; what stands still is measured too, by those it turns away."""
        now = self._clock()
        if self.in_flight:
            passed = now - self._last
            self._busy_s += passed
            self._waited_s += passed * self.in_flight
        self._last = now
        if now >= self._window_ends:
            self._adapt()
            self._window_ends = now + WINDOW_S

    def _adapt(self) -> None:
        if self._busy_s > 0:
            finished_in_target = int(self._target_s * self._done / self._busy_s)
            too_slow = self._waited_s > self._target_s * self._done
            crowded = (
                self._waited_s > self._floor * self._busy_s
            )  # a few slow ones alone say nothing about many
            if too_slow and crowded:
                self.limit = max(self._floor, min(self.limit, finished_in_target))
            elif self._reached and not too_slow:
                grown = min(finished_in_target, int(self.limit * GROWTH), self._most)
                self.limit = max(self.limit, grown)
        self._reached = False
        self._waited_s *= KEPT
        self._busy_s *= KEPT
        self._done *= KEPT


class _Place(AbstractContextManager[None]):
    """One place; it remembers nothing, so that all requests share one of these."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def __enter__(self) -> None:
        self._admission.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._admission.leave()
