"""Tables of figures that tests print at the end of the run, those of all its processes."""

from io import StringIO
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter
from rich.console import Console
from rich.table import Table

WIDTH = 200


class Tables:
    """What is printed at the end, each as text."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, table: Table) -> None:
        """Print `table` at the end of the run."""
        text = StringIO()
        Console(width=WIDTH, file=text).print(table)
        self.texts.append(text.getvalue())


_TABLES = pytest.StashKey[Tables]()


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> Tables:
    """Return what takes the tables of the whole run."""
    return pytestconfig.stash.setdefault(_TABLES, Tables())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the tables over, where this is one of several processes."""
    made = session.config.stash.get(_TABLES, None)
    if made is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tables"] = made.texts


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - a worker of pytest-xdist
    """Take over the tables of one of several processes."""
    texts = getattr(node, "workeroutput", {}).get("tables", [])
    node.config.stash.setdefault(_TABLES, Tables()).texts.extend(texts)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Print the tables."""
    made = config.stash.get(_TABLES, None)
    if made is not None and made.texts:
        terminalreporter.section("figures")
        for text in made.texts:
            terminalreporter.write_line(text)
