"""Counts what the security tests tried; the counts are printed at the end of the run."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """How many cases of each kind were tried, and how many ended as they must not."""

    tried: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, tried: int, unexpected: Sequence[object]) -> None:
        """Count the cases of one test."""
        self.tried[kind] += tried
        self.unexpected[kind] += len(unexpected)

    def lines(self) -> Iterator[str]:
        """Return the counts as text, the sum last."""
        for kind, tried in sorted(self.tried.items()):
            yield f"{kind}: {tried} cases, {self.unexpected[kind]} unexpected"
        yield f"together: {self.tried.total()} cases, {self.unexpected.total()} unexpected"
