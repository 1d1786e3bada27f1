"""What became of the requests of an open-loop run. Pure."""

from collections import Counter
from dataclasses import dataclass, replace

from bench.quantiles import Quantiles, quantiles

TIMED_OUT = 0
UNSENT = -1
BROKEN = -2
NAMES = {TIMED_OUT: "timed out", UNSENT: "timed out before a connection was free", BROKEN: "connection lost"}


@dataclass(slots=True)
class Sample:
    """One request; times in seconds after the run's start. Without an answer, `status` is one of `NAMES`.

    It was `taken` when this client turned to it; then it was sent, or waited for a free connection.
    """

    id: str
    due: float
    taken: float
    done: float = float("nan")
    status: int = UNSENT
    is_polite_refusal: bool = False  # carries Retry-After and problem+json

    @property
    def latency_ms(self) -> float:
        """Return how long the answer took from when the request was due."""
        return (self.done - self.due) * 1000


@dataclass(frozen=True)
class LoadOutcome:
    """All requests of a run, in the order in which they were due."""

    samples: tuple[Sample, ...]
    connections: int

    def between(self, begin: float, end: float) -> "LoadOutcome":
        """Return the part that was due in [begin, end) seconds after the start."""
        return replace(self, samples=tuple(each for each in self.samples if begin <= each.due < end))

    @property
    def statuses(self) -> Counter[int]:
        """Return how often each status was answered; no answer counts under `NAMES`."""
        return Counter(each.status for each in self.samples)

    @property
    def acknowledged(self) -> list[str]:
        """Return the ids of the requests that were answered 2xx."""
        return [each.id for each in self.samples if 200 <= each.status < 300]

    @property
    def unanswered(self) -> int:
        """Return how many got no answer in time."""
        return sum(1 for each in self.samples if each.status <= 0)

    def goodput(self, seconds: float) -> float:
        """Return how many requests a second were answered 2xx in time."""
        return len(self.acknowledged) / seconds

    def latency_ms(self, *, low: int = 200, high: int = 300) -> Quantiles:
        """Return the latencies of answers whose status is in [low, high), counted from when they were due."""
        return quantiles([each.latency_ms for each in self.samples if low <= each.status < high])

    def lateness_ms(self) -> Quantiles:
        """Return how late this client itself was: from when requests were due to when it took them up."""
        return quantiles([(each.taken - each.due) * 1000 for each in self.samples])

    def impolite(self, status: int = 503) -> int:
        """Return how many answers with `status` lack Retry-After or problem+json."""
        return sum(1 for each in self.samples if each.status == status and not each.is_polite_refusal)
