"""Seventy times a service is killed under load, at named points and at random moments: nothing is lost.

On PostgreSQL and Valkey it is a shorter run, at the points where the database makes a difference.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from rich.table import Table

from local_stack.settings import Stores
from tests.faults.cells import drained
from tests.faults.check_history import check_history
from tests.faults.evidence import Scope
from tests.faults.history import write_history
from tests.faults.identity_load import IdentityLoad
from tests.faults.invariants import Breach
from tests.faults.kills import AT_COMMITS, Kill, Killed, planned_kills, run_chain
from tests.faults.load import Load, Mix
from tests.faults.stack import FaultyStack, faulty_stack
from tests.tables import Tables

SEED = 20_261_121
KILLS, ROUNDS = 70, 5
MIX = Mix(rate=40.0, flagged=8)
DRAIN_S = 60.0
MOST_COPIES = 3
OFTEN = {"ai_service": {"VELOCITY_SNAPSHOT_S": "1"}}  # so that a snapshot is being written when it ends
PLAN = planned_kills(seed=SEED, count=KILLS, rounds=ROUNDS)
KILLS_ON_SERVERS = 28
PLAN_ON_SERVERS = planned_kills(seed=SEED, count=KILLS_ON_SERVERS, rounds=1, points=AT_COMMITS)


class Report:
    """What every round came to."""

    def __init__(self) -> None:
        self.table = Table(title=f"{KILLS} kills under {MIX.rate:.0f} requests a second, seed {SEED}")
        for heading in ("round", "service", "killed", "at pass", "as meant", "away s"):
            self.table.add_column(heading)
        for heading in ("decided", "unanswered tries", "drained s", "breaches"):
            self.table.add_column(heading, justify="right")

    def add(
        self, number: int, killed: Sequence[Killed], load: Load, drained_s: float | None, found: list[Breach]
    ) -> None:
        decided = len({attempt.transaction_id for attempt in load.history if attempt.decision_id})
        unanswered = sum(1 for attempt in load.history if attempt.status is None)
        whole = (decided, unanswered, "never" if drained_s is None else f"{drained_s:.1f}", len(found))
        for place, each in enumerate(killed):
            kill = each.kill
            self.table.add_row(
                *map(str, (number, kill.service, kill.where, kill.passes or "", _yes(each), each.away_s)),
                *(map(str, whole) if place == len(killed) - 1 else ()),
                end_section=place == len(killed) - 1,
            )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyStack]:
    with faulty_stack(tmp_path_factory.mktemp("stack") / "var", environment=OFTEN) as running:
        yield running


@pytest.fixture(scope="module")
def stack_on_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyStack]:
    folder = tmp_path_factory.mktemp("stack") / "var"
    with faulty_stack(folder, environment=OFTEN, stores=Stores.SERVERS) as running:
        yield running


@pytest.fixture(scope="module")
def report(tables: Tables) -> Iterator[Report]:
    """A table of all kills, shown at the end."""
    filled = Report()
    yield filled
    tables.add(filled.table)


class TestKillRuns:
    @pytest.mark.parametrize("number", range(ROUNDS))
    async def test_nothing_is_lost_and_nothing_is_told_too_often(
        self, stack: FaultyStack, report: Report, number: int, tmp_path: Path
    ) -> None:
        await _round(stack, PLAN[number], report, number=number, folder=tmp_path)

    async def test_nor_on_postgresql_and_valkey(
        self, stack_on_servers: FaultyStack, report: Report, tmp_path: Path
    ) -> None:
        (chains,) = PLAN_ON_SERVERS

        await _round(stack_on_servers, chains, report, number=ROUNDS, folder=tmp_path)

    def test_the_plan_holds_every_point_and_seventy_kills(self) -> None:
        kills = list(chain.from_iterable(chain.from_iterable(PLAN)))

        assert len(kills) == KILLS
        assert planned_kills(seed=SEED, count=KILLS, rounds=ROUNDS) == PLAN


async def _round(
    stack: FaultyStack, chains: Sequence[Sequence[Kill]], report: Report, *, number: int, folder: Path
) -> None:
    """Kill as planned while payments are sent and institutions register, and look for all of it afterwards."""
    caller = await asyncio.to_thread(stack.new_caller, f"Round {number}")
    load = Load(
        stack.stack.url("ai_service"),
        caller.token,
        label=f"round-{number}",
        mix=MIX,
        institution_id=caller.login.institution_id,
    )
    identity = IdentityLoad(stack, caller)

    async with load.running(), identity.running():
        killed = await _killed(stack, chains, seed=SEED + number)
    await load.converge(within_s=DRAIN_S)
    drained_s = await drained(stack, Scope(), within_s=DRAIN_S)
    found = await asyncio.to_thread(
        check_history,
        load.history,
        stack.sources,
        scope=caller.scope,
        models_dir=stack.stack.files.models,
        most_copies=MOST_COPIES,
        asked=identity.asked,
    )
    for login in identity.registered:
        found += await asyncio.to_thread(
            check_history,
            [],
            stack.sources,
            scope=Scope(login.institution_id, login.email),
            registered=[login.institution_id],
        )

    write_history(folder / "history.jsonl", load.history)
    report.add(number, killed, load, drained_s, found)
    assert [str(breach) for breach in found] == []
    assert [each.kill for each in killed if not each.as_meant] == []
    assert drained_s is not None
    assert identity.asked
    assert identity.registered


async def _killed(stack: FaultyStack, chains: Sequence[Sequence[Kill]], *, seed: int) -> list[Killed]:
    runs = [
        run_chain(stack, kills, chosen=random.Random(seed + place))  # noqa: S311 - moments that can be had again
        for place, kills in enumerate(chains)
    ]
    return list(chain.from_iterable(await asyncio.gather(*runs)))


def _yes(killed: Killed) -> str:
    return "yes" if killed.as_meant else "no"
