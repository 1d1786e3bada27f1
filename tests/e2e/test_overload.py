"""More than the service can do: it scores about as many as ever, and tells the others at once to come again."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from rich.table import Table

from bench.figures import Aim, Better, Figure
from local_stack.accounts import access_token, register_sandbox
from tests.e2e.overload import CALM_S, Generator, Step, impolite, own_core
from tests.e2e.stacks import running_stack
from tests.tables import Tables

FACTORS = (1.0, 2.0, 3.0, 5.0)
STEP_S = 3.0


@dataclass(frozen=True)
class Overload:
    """A whole run: capacity, then step by step more, then calm."""

    capacity: float
    steps: list[Step]
    calm: Step
    acknowledged: list[str]
    saved: set[str]

    def figures(self) -> list[Figure]:
        """Return what is printed."""
        recovery = Figure("overload_recovery", self.calm.recovery_s(), "s", aim=Aim(Better.LOWER, 5))
        each = [figure for step in (*self.steps, self.calm) for figure in step.figures(self.capacity)]
        return [Figure("overload_capacity", self.capacity, "requests/s"), *each, recovery]


@pytest.fixture(scope="module")
def overload(tmp_path_factory: pytest.TempPathFactory, tables: Tables) -> Iterator[Overload]:
    """One run for all tests; at the end its figures are printed."""
    with running_stack(tmp_path_factory.mktemp("stack") / "var") as stack:
        login = register_sandbox(stack.url("user_service"), name="Overload")
        generator = Generator(stack, access_token(stack.url("user_service"), login))
        with own_core(stack):
            capacity, steps, calm = asyncio.run(run(generator))
        done = Overload(capacity, steps, calm, generator.acknowledged, generator.saved())
    yield done
    tables.add(table(done.figures()))


async def run(generator: Generator) -> tuple[float, list[Step], Step]:
    await generator.capacity(1.0)  # what only the first requests wait for is there
    capacity = await generator.capacity(STEP_S)
    steps = [await generator.offer(factor, capacity, seconds=STEP_S) for factor in FACTORS]
    return capacity, steps, await generator.offer(0.5, capacity, seconds=CALM_S)


def table(figures: list[Figure]) -> Table:
    words = {True: "yes", False: "no", None: ""}
    made = Table("figure", "value", "unit", "target", "holds")
    for each in figures:
        target = "" if each.aim is None else f"{each.aim.target:g}"
        made.add_row(each.name, f"{each.value:.2f}", each.unit, target, words[each.holds])
    return made


class TestOverload:
    def test_every_request_is_scored_or_told_to_come_again(self, overload: Overload) -> None:
        for step in (*overload.steps, overload.calm):
            assert impolite(step.outcome.samples) == []

    def test_far_too_many_are_not_all_let_in(self, overload: Overload) -> None:
        assert overload.steps[-1].outcome.statuses[503] > 0

    def test_whatever_was_acknowledged_is_saved(self, overload: Overload) -> None:
        assert overload.acknowledged
        assert set(overload.acknowledged) <= overload.saved

    def test_no_payment_is_acknowledged_twice(self, overload: Overload) -> None:
        assert len(set(overload.acknowledged)) == len(overload.acknowledged)

    def test_most_of_the_capacity_is_still_there(self, overload: Overload) -> None:
        for step in overload.steps:
            # while other processes have the core of ai_service, nothing can be said of its capacity
            least = 0.5 * overload.capacity if step.had_its_core else 0.0
            assert step.outcome.goodput(step.seconds) > least

    def test_once_it_is_calm_again_it_works_as_before(self, overload: Overload) -> None:
        last_second = overload.calm.outcome.between(CALM_S - 1, CALM_S)

        assert len(last_second.acknowledged) > 0.5 * len(last_second.samples)
