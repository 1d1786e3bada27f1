"""PostgreSQL or Valkey is away while payments are sent: nothing acknowledged is lost, nobody hangs, all of it recovers.

While PostgreSQL is away nothing can be saved, so nothing is acknowledged: payers are told to come again. Without Valkey
payments are decided as ever, and say that nobody could be counted.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table

from local_stack.settings import Stores
from tests.faults.history import write_history
from tests.faults.outages import (
    STORE_FAULTS,
    Outage,
    OutageResult,
    cut_off,
    frozen,
    killed,
    run_outage,
    shortcomings,
)
from tests.faults.stack import POSTGRESQL, VALKEY, FaultyStack, faulty_stack
from tests.tables import Tables

SECONDS = 4.0
# gone for good: their connections answer nothing useful
AWAY = {"down", "half-open", "garbage", "killed", "frozen"}
LEAST_DECIDED = 0.99


def outages(store: str) -> list[Outage]:
    return [*(cut_off(store, fault) for fault in STORE_FAULTS), frozen(store), killed(store)]


def named(outage: Outage) -> str:
    return f"{outage.store}, {outage.name}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyStack]:
    with faulty_stack(tmp_path_factory.mktemp("stack") / "var", stores=Stores.SERVERS) as running:
        yield running


@pytest.fixture(scope="module")
def results(tables: Tables) -> Iterator[list[OutageResult]]:
    """What every outage came to, shown at the end."""
    found: list[OutageResult] = []
    yield found
    table = Table("store", "outage", "answers during it", "degraded", "drained s", "breaches")
    for each in found:
        drained = "never" if each.drained_s is None else f"{each.drained_s:.1f}"
        cells = (each.outage.store, each.outage.name, each.during, each.degraded, drained, len(each.breaches))
        table.add_row(*map(str, cells))
    tables.add(table)


class TestPostgresqlIsAway:
    @pytest.mark.parametrize("outage", outages(POSTGRESQL), ids=named)
    async def test_nothing_acknowledged_is_lost_and_payers_are_told_to_come_again(
        self, stack: FaultyStack, results: list[OutageResult], outage: Outage, tmp_path: Path
    ) -> None:
        result = await run_outage(stack, outage, seconds=SECONDS)

        results.append(result)
        write_history(tmp_path / "history.jsonl", result.history)
        assert shortcomings(result) == []
        if outage.name in AWAY:
            assert result.during.get("503", 0) > 0


class TestValkeyIsAway:
    @pytest.mark.parametrize("outage", outages(VALKEY), ids=named)
    async def test_payments_are_decided_and_say_that_nobody_was_counted(
        self, stack: FaultyStack, results: list[OutageResult], outage: Outage, tmp_path: Path
    ) -> None:
        result = await run_outage(stack, outage, seconds=SECONDS)

        results.append(result)
        write_history(tmp_path / "history.jsonl", result.history)
        assert shortcomings(result) == []
        assert result.during["200"] >= LEAST_DECIDED * sum(result.during.values())
        if outage.name in AWAY:
            assert result.degraded["velocity"] > 0
