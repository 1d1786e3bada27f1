"""PostgreSQL and Valkey are away, under load: killed, frozen, cut off, slow, or answering nonsense.

Unlike a dependency of the matrix, nobody can look into a database that is away: everything is looked at afterwards.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cells import FAULTS, drained
from tests.faults.check_history import check_history
from tests.faults.faults import PASS, Fault, Mode
from tests.faults.history import Attempt, Ending, Wanted
from tests.faults.invariants import Breach
from tests.faults.load import Load, Mix
from tests.faults.stack import FaultyStack

STORE_FAULTS = {**FAULTS, "cut": Fault(Mode.CUT_ANSWER, after_bytes=40)}
MIX = Mix(rate=40.0, flagged=8)
# far beyond the deadline of 300 ms: who hears nothing for so long was left hanging, however busy the machine is
PATIENCE_S = 6.0
CALM_S = 2.0
RECOVERED_WITHIN_S = 60.0
MOST_COPIES = 3  # a mail whose taking could not be written down is sent again
Change = Callable[[FaultyStack], None]


@dataclass(frozen=True)
class Outage:
    """What is done to PostgreSQL or Valkey, and how it is undone."""

    store: str
    name: str
    begin: Change
    end: Change


@dataclass(frozen=True)
class OutageResult:
    """What one outage came to."""

    outage: Outage
    during: dict[str, int]  # by status, or the name of what came instead of an answer
    degraded: dict[str, int]
    recovered: bool
    drained_s: float | None
    breaches: list[Breach] = field(repr=False)
    history: list[Attempt] = field(repr=False)


def cut_off(store: str, fault: str) -> Outage:
    """Return a fault of all connections to `store`."""
    chosen = STORE_FAULTS[fault]
    return Outage(
        store,
        fault,
        begin=lambda stack: stack.kit.set(store, chosen),
        end=lambda stack: stack.kit.set(store, PASS),
    )


def killed(store: str) -> Outage:
    """Return the end of `store` by `kill -9`, and its start with the data it had."""
    return Outage(
        store, "killed", begin=lambda stack: stack.stack.kill(store), end=lambda stack: _start(stack, store)
    )


def frozen(store: str) -> Outage:
    """Return a `store` whose every process stands still for a while."""
    return Outage(
        store,
        "frozen",
        begin=lambda stack: _signal_all(stack, store, signal.SIGSTOP),
        end=lambda stack: _signal_all(stack, store, signal.SIGCONT),
    )


async def run_outage(stack: FaultyStack, outage: Outage, *, seconds: float) -> OutageResult:
    """Send payments before, during and after an outage of so many seconds, and look for what became of them."""
    caller = await asyncio.to_thread(stack.new_caller, f"{outage.store} {outage.name}")
    url = stack.stack.url("ai_service")
    load = Load(
        url,
        caller.token,
        label=f"{outage.store}-{outage.name}",
        mix=MIX,
        timeout_s=PATIENCE_S,
        institution_id=caller.login.institution_id,
    )
    async with load.running():
        load.phase = "before"
        await asyncio.sleep(CALM_S)
        load.phase = "during"
        await asyncio.to_thread(outage.begin, stack)
        await asyncio.sleep(seconds)
        load.phase = "ending"
        await asyncio.to_thread(outage.end, stack)
        await asyncio.sleep(CALM_S)
    recovered = await load.sees_recovery(within_s=RECOVERED_WITHIN_S)
    await load.converge(within_s=RECOVERED_WITHIN_S)
    drained_s = await drained(stack, caller.scope, within_s=RECOVERED_WITHIN_S)
    found = await asyncio.to_thread(
        check_history,
        load.history,
        stack.sources,
        scope=caller.scope,
        models_dir=stack.stack.files.models,
        most_copies=MOST_COPIES,
    )
    stack.stack.raise_if_ended()
    return _result(outage, load.history, recovered=recovered, drained_s=drained_s, found=found)


def shortcomings(result: OutageResult) -> list[str]:
    """Return what holds after any outage of any store and did not."""
    found = [str(breach) for breach in result.breaches]
    found += [
        f"{attempt.transaction_id} ({attempt.phase}) was left without an answer: {attempt.error}"
        for attempt in result.history
        if attempt.status is None
    ]
    if not result.recovered:
        found.append("decisions still say that something is away, a minute after the outage's end")
    if result.drained_s is None:
        found.append("something still waits, a minute after the outage's end")
    if not any(attempt.decision_id for attempt in _of(result.history, "before")):
        found.append("nothing was decided before the outage")
    return found


def _result(
    outage: Outage,
    history: list[Attempt],
    *,
    recovered: bool,
    drained_s: float | None,
    found: list[Breach],
) -> OutageResult:
    during = list(_of(history, "during"))
    answers = [attempt.answer for attempt in during if attempt.ending is Ending.OK and attempt.answer]
    return OutageResult(
        outage,
        during=dict(Counter(str(attempt.status or attempt.error) for attempt in during)),
        degraded=dict(Counter(part for answer in answers for part in answer["degraded"])),
        recovered=recovered,
        drained_s=drained_s,
        breaches=found,
        history=history,
    )


def _of(history: list[Attempt], phase: str) -> Iterator[Attempt]:
    return (each for each in history if each.phase == phase and each.wanted is Wanted.DECISION)


def _start(stack: FaultyStack, store: str) -> None:
    stack.stack.start_part(store)
    stack.stack.await_ready([store])


def _signal_all(stack: FaultyStack, store: str, number: signal.Signals) -> None:
    """Send a signal to a part's process and to every process below it."""
    for pid in _with_children(stack.stack.children[store].pid):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _with_children(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [each for child in task.read_text().split() for each in _with_children(int(child))]
    return found
