"""One cell of the fault matrix: a steady load, a fault in its middle, the end of the fault, and what is left of it."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.faults.check_history import check_history
from tests.faults.evidence import Scope, waiting
from tests.faults.faults import GARBLED, PASS, REFUSE, RESET_IN_ANSWER, SILENT, SLOW, Fault
from tests.faults.history import Attempt, Wanted
from tests.faults.invariants import Breach
from tests.faults.load import Load, quantile
from tests.faults.smtp import MailFaults
from tests.faults.stack import FaultyStack

FAULTS = {"down": REFUSE, "slow": SLOW, "reset": RESET_IN_ANSWER, "half-open": SILENT, "garbage": GARBLED}
MAIL_FAULTS = {
    "451 at first": MailFaults(recipients=(("*", "451 later"),), refusals=2),
    "452 message": MailFaults(data="452 no room"),
    "421 closing": MailFaults(recipients=(("*", "421 closing down"),)),
    "drop after DATA": MailFaults(drop_after_data=1),
    "late banner": MailFaults(banner_delay_s=30.0),
    "endless banner": MailFaults(banner_bytes=4_000_000),
}
SETTLE_S = 0.5  # after a change, so that what was under way does not count as what came after it
LOOK_S = 0.1
P99_LIMIT = 1.25
MOST_COPIES = 3


@dataclass(frozen=True)
class Phases:
    """How long each part of a cell takes, in seconds; `recover_s` and `drain_s` are the longest
    that is waited."""

    baseline_s: float = 4.0
    fault_s: float = 8.0
    recovery_s: float = 1.0
    recover_s: float = 20.0
    drain_s: float = 60.0


@dataclass(frozen=True)
class Trouble:
    """What is done to one dependency."""

    dependency: str
    name: str
    begin: Callable[[FaultyStack], None]
    end: Callable[[FaultyStack], None]
    may_repeat_mails: bool = False


@dataclass(frozen=True)
class CellResult:
    """What one cell came to. Latencies are of acknowledged requests, in milliseconds."""

    dependency: str
    fault: str
    baseline_ms: tuple[float, float]
    during_ms: tuple[float, float]
    sent: int
    acknowledged: int
    turned_away: int
    degraded: dict[str, int]
    pending_alerts: int
    flagged: int
    pending_audits: int
    fresh: int
    waiting_at_end: int
    recovered: bool
    drained_s: float | None
    breaches: list[Breach] = field(repr=False)
    history: list[Attempt] = field(repr=False)

    @property
    def ratio(self) -> float:
        """Return the p99 during the fault by the p99 before it."""
        return self.during_ms[1] / self.baseline_ms[1] if self.baseline_ms[1] else 0.0

    def to_json(self) -> str:
        """Return the figures as one line."""
        figures = {name: value for name, value in vars(self).items() if name not in {"breaches", "history"}}
        more = {"p99_ratio": round(self.ratio, 3), "breaches": [str(breach) for breach in self.breaches]}
        return json.dumps(figures | more)


def network_trouble(dependency: str, fault: str) -> Trouble:
    """Return a fault of the connection to `dependency`."""
    chosen: Fault = FAULTS[fault]
    return Trouble(
        dependency,
        fault,
        begin=lambda stack: stack.kit.set(dependency, chosen),
        end=lambda stack: stack.kit.set(dependency, PASS),
        # a mail server that was cut off may have taken what it could not confirm
        may_repeat_mails=dependency == "smtp" and fault in {"slow", "reset", "half-open"},
    )


def mail_trouble(fault: str) -> Trouble:
    """Return a fault of the mail server itself."""
    return Trouble(
        "smtp",
        fault,
        begin=lambda stack: stack.kit.set_mail(MAIL_FAULTS[fault]),
        end=lambda stack: stack.kit.set_mail(MailFaults()),
        may_repeat_mails=fault == "drop after DATA",
    )


async def run_cell(
    stack: FaultyStack, trouble: Trouble, phases: Phases, *, baseline: Sequence[float] = ()
) -> CellResult:
    """Run one cell. With `baseline` latencies of an earlier cell, the time before the fault is kept short."""
    caller = await asyncio.to_thread(stack.new_caller, f"{trouble.dependency} {trouble.name}")
    load = Load(
        stack.stack.url("ai_service"),
        caller.token,
        label=trouble.name.replace(" ", "-"),
        institution_id=caller.login.institution_id,
    )
    async with load.running():
        load.phase = "before"
        await asyncio.sleep(SETTLE_S * 2 if baseline else phases.baseline_s)
        trouble.begin(stack)
        load.phase = "beginning"
        await asyncio.sleep(SETTLE_S)
        load.phase = "fault"
        await asyncio.sleep(phases.fault_s - SETTLE_S)
        load.phase = "ending"
        left = await asyncio.to_thread(waiting, stack.sources, caller.scope)
        trouble.end(stack)
        ended = time.monotonic()
        await asyncio.sleep(phases.recovery_s)
    recovered = await load.sees_recovery(within_s=phases.recover_s)
    await load.converge(within_s=phases.drain_s)
    drained_s = await drained(stack, caller.scope, since=ended, within_s=phases.drain_s)
    found = await asyncio.to_thread(
        check_history,
        load.history,
        stack.sources,
        scope=caller.scope,
        models_dir=stack.stack.files.models,
        most_copies=MOST_COPIES if trouble.may_repeat_mails else 1,
    )
    before = baseline or latencies(load.history, "before")
    return _result(
        trouble,
        load.history,
        before,
        waiting_at_end=len(left),
        recovered=recovered,
        drained_s=drained_s,
        breaches=found,
    )


def latencies(history: Iterable[Attempt], phase: str) -> list[float]:
    """Return the latencies of new decisions in one phase."""
    return [
        attempt.latency_ms
        for attempt in history
        if attempt.phase == phase and attempt.decision_id and not attempt.replayed
    ]


async def drained(
    stack: FaultyStack, scope: Scope, *, within_s: float, since: float | None = None
) -> float | None:
    """Wait until nothing of `scope` waits any more; return how many seconds that was `since` (or from now)."""
    since = time.monotonic() if since is None else since
    while time.monotonic() < since + within_s:
        if not await asyncio.to_thread(waiting, stack.sources, scope):
            return time.monotonic() - since
        await asyncio.sleep(LOOK_S)
    return None


def _result(
    trouble: Trouble,
    history: list[Attempt],
    before: Sequence[float],
    *,
    waiting_at_end: int,
    recovered: bool,
    drained_s: float | None,
    breaches: list[Breach],
) -> CellResult:
    during = [
        attempt for attempt in history if attempt.phase == "fault" and attempt.wanted is Wanted.DECISION
    ]
    answers = [
        attempt.answer
        for attempt in during
        if attempt.answer and attempt.decision_id and not attempt.replayed
    ]
    told = [answer["deliveries"] for answer in answers]
    ms = latencies(history, "fault")
    return CellResult(
        dependency=trouble.dependency,
        fault=trouble.name,
        baseline_ms=(quantile(before, 0.5), quantile(before, 0.99)),
        during_ms=(quantile(ms, 0.5), quantile(ms, 0.99)),
        sent=len(during),
        acknowledged=sum(1 for attempt in during if attempt.decision_id),
        turned_away=sum(1 for attempt in during if attempt.status == 503),
        degraded=_counted(part for answer in answers for part in answer["degraded"]),
        pending_alerts=sum(1 for each in told if each["alert"] == "pending"),
        flagged=sum(1 for each in told if each["alert"] != "not_needed"),
        pending_audits=sum(1 for each in told if each["audit"] == "pending"),
        fresh=len(answers),
        waiting_at_end=waiting_at_end,
        recovered=recovered,
        drained_s=None if drained_s is None else round(drained_s, 1),
        breaches=breaches,
        history=history,
    )


def _counted(parts: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        counts[part] = counts.get(part, 0) + 1
    return counts
