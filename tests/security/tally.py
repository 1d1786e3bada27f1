"""Counts what the security tests tried; the counts are printed at the end of the run, those of all its processes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter


@dataclass
class Tally:
    """How many cases of each kind were tried, and how many ended as they must not."""

    tried: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, tried: int, unexpected: Sequence[object]) -> None:
        """Count the cases of one test."""
        self.tried[kind] += tried
        self.unexpected[kind] += len(unexpected)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts for another process."""
        return {"tried": dict(self.tried), "unexpected": dict(self.unexpected)}

    def merge(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Add what another process counted."""
        self.tried.update(counts["tried"])
        self.unexpected.update(counts["unexpected"])

    def lines(self) -> Iterator[str]:
        """Return the counts as text, the sum last."""
        for kind, tried in sorted(self.tried.items()):
            yield f"{kind}: {tried} cases, {self.unexpected[kind]} unexpected"
        yield f"together: {self.tried.total()} cases, {self.unexpected.total()} unexpected"


_TALLY = pytest.StashKey[Tally]()


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    """Return what counts the cases of the whole run."""
    return pytestconfig.stash.setdefault(_TALLY, Tally())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts over, where this is one of several processes."""
    counted = session.config.stash.get(_TALLY, None)
    if counted is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = counted.counts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - a worker of pytest-xdist
    """Take over what one of several processes counted."""
    counts = getattr(node, "workeroutput", {}).get("tally")
    if counts:
        node.config.stash.setdefault(_TALLY, Tally()).merge(counts)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Print what was tried."""
    counted = config.stash.get(_TALLY, None)
    if counted is not None:
        terminalreporter.section("security")
        for line in counted.lines():
            terminalreporter.write_line(line)
