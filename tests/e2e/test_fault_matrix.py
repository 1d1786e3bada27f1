"""Every dependency fails in every way, under load: nothing is lost, nothing is told too often, and it shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.settings import Stores
from tests.faults.cells import Phases, Trouble
from tests.faults.history import write_history
from tests.faults.matrix import MAIL, NETWORK, ON_SERVERS, Matrix, shortcomings, table
from tests.faults.stack import faulty_stack
from tests.tables import Tables

PHASES = Phases(baseline_s=4.0, fault_s=4.0)
MAIL_PHASES = Phases(baseline_s=4.0, fault_s=3.0)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory, tables: Tables) -> Iterator[Matrix]:
    """A stack for all cells; at the end, a table of what they came to."""
    yield from _matrix(tmp_path_factory, tables, Stores.EMBEDDED)


@pytest.fixture(scope="module")
def matrix_on_servers(tmp_path_factory: pytest.TempPathFactory, tables: Tables) -> Iterator[Matrix]:
    """The same on PostgreSQL and Valkey."""
    yield from _matrix(tmp_path_factory, tables, Stores.SERVERS)


def _matrix(tmp_path_factory: pytest.TempPathFactory, tables: Tables, stores: Stores) -> Iterator[Matrix]:
    with faulty_stack(tmp_path_factory.mktemp("stack") / "var", stores=stores) as stack:
        running = Matrix(stack)
        yield running
    tables.add(table(running.results))


def named(trouble: Trouble) -> str:
    return f"{trouble.dependency}, {trouble.name}"


class TestFaultMatrix:
    @pytest.mark.parametrize("trouble", NETWORK, ids=named)
    def test_nothing_is_lost_when_a_connection_fails(
        self, matrix: Matrix, trouble: Trouble, tmp_path: Path
    ) -> None:
        result = matrix.run(trouble, PHASES)

        write_history(tmp_path / "history.jsonl", result.history)
        assert shortcomings(result) == []

    @pytest.mark.parametrize("trouble", MAIL, ids=named)
    def test_nothing_is_lost_when_the_mail_server_misbehaves(
        self, matrix: Matrix, trouble: Trouble, tmp_path: Path
    ) -> None:
        result = matrix.run(trouble, MAIL_PHASES)

        write_history(tmp_path / "history.jsonl", result.history)
        assert shortcomings(result) == []


class TestFaultMatrixOnPostgresqlAndValkey:
    @pytest.mark.parametrize("trouble", ON_SERVERS, ids=named)
    def test_nothing_is_lost_when_a_dependency_is_away(
        self, matrix_on_servers: Matrix, trouble: Trouble, tmp_path: Path
    ) -> None:
        result = matrix_on_servers.run(trouble, MAIL_PHASES)

        write_history(tmp_path / "history.jsonl", result.history)
        assert shortcomings(result) == []
