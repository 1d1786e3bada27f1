"""Kills services under load, at named points and at random moments, and starts them again."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from local_stack.child import Child
from tests.faults.faults import PASS, REFUSE, Fault, Mode
from tests.faults.stack import FaultyStack

AT_RANDOM = "at a random moment"
WHILE_STOPPING = "while it stops"
WHILE_MAILING = "in the middle of a mail"
WHILE_STORING = "in the middle of a PUT"
REACHED_WITHIN_S = 60.0
READY_WITHIN_S = 120.0
LOOK_S = 0.02
ASK_S = 0.1
RANDOM_WITHIN_S = (0.2, 2.0)
STOPPING_S = (0.0, 0.4)

# where a kill hurts, by service; the number is up to how many passes are let through first
POINTS: Mapping[str, Mapping[str, int]] = {
    "ai_service": {
        "score.before_auth": 60,
        "score.after_auth": 60,
        "score.after_enrichment": 60,
        "score.after_decision": 60,
        "decisions.before_begin": 30,
        "decisions.after_keys": 30,
        "decisions.after_decisions": 30,
        "decisions.after_outbox": 30,
        "decisions.before_commit": 30,
        "decisions.after_commit": 30,
        "decisions.after_telling": 30,
        "response.started": 60,
        "relay.after_claim": 1,
        "relay.after_send": 1,
        "relay.after_mark": 1,
        "velocity.before_snapshot": 1,
        "migrations.before_commit": 1,
    },
    "alert_service": {
        "alerts.before_begin": 4,
        "alerts.before_commit": 4,
        "alerts.after_commit": 4,
        "notices.before_commit": 2,
        "notices.after_commit": 2,
        "mails.before_commit": 8,
        "mail.before_send": 1,
        "mail.after_send": 1,
        "mail.after_mark": 1,
    },
    "log_service": {
        "spool.before_commit": 30,
        "spool.after_commit": 30,
        "object.before_seal_commit": 2,
        "object.after_seal": 2,
        "object.after_put": 2,
        "object.after_mark": 2,
        "object.while_clearing": 2,
    },
    "user_service": {"relay.after_claim": 2, "relay.after_send": 2, "relay.after_mark": 2},
    "external_apis_services": {},
}
AROUND_COMMITS = frozenset(
    {"before_begin", "before_commit", "before_seal_commit", "after_commit", "after_claim", "after_mark"}
)
# what depends on the database that is used: where work is about to be committed, or was a moment ago. Between two
# statements of one transaction nothing differs, whichever engine rolls it back
AT_COMMITS: Mapping[str, Mapping[str, int]] = {
    service: {point: passes for point, passes in points.items() if point.rpartition(".")[2] in AROUND_COMMITS}
    for service, points in POINTS.items()
}
AT_START = frozenset({"migrations.before_commit"})
# what is slowed down, so that a random moment is one in the middle of it
SLOWED = {WHILE_MAILING: "smtp", WHILE_STORING: "s3"}
SLOWLY = Fault(Mode.SLOW, delay_s=0.5)
# the relay has work only when something could not be told at once
NEEDS_OUTAGE_OF = {
    ("ai_service", point): "log_service" for point in POINTS["ai_service"] if point.startswith("relay.")
}


@dataclass(frozen=True)
class Kill:
    """One kill: of which service and where; `passes` is how often a named point is passed, the last time fatally."""

    service: str
    where: str
    passes: int = 0

    @property
    def failpoint(self) -> str:
        """Return the setting that brings it about; empty when the test does it."""
        return f"{self.where}:kill:{self.passes}" if self.passes else ""


@dataclass(frozen=True)
class Killed:
    """How one kill went: whether the process ended as it was meant to, and how long it was away."""

    kill: Kill
    as_meant: bool
    away_s: float


class DidNotStartError(Exception):
    """A service did not come back by itself."""


def planned_kills(
    *, seed: int, count: int, rounds: int, points: Mapping[str, Mapping[str, int]] = POINTS
) -> list[list[list[Kill]]]:
    """Return `rounds` rounds of one chain of kills for each service; together `count` kills, all `points` among them.

    Every chain begins with a kill at a random moment: the start after it arms the next.
    """
    chosen = random.Random(seed)  # noqa: S311 - a plan that can be made again
    named = {
        service: [Kill(service, where, chosen.randint(1, most)) for where, most in named_points.items()]
        for service, named_points in points.items()
    }
    named["alert_service"].append(Kill("alert_service", WHILE_MAILING))
    named["log_service"].append(Kill("log_service", WHILE_STORING))
    free = count - sum(map(len, named.values())) - rounds * len(POINTS)
    for number in range(free):
        service = chosen.choice(list(POINTS))
        named[service].append(Kill(service, WHILE_STOPPING if number % 4 == 0 else AT_RANDOM))
    for kills in named.values():
        chosen.shuffle(kills)
    return [
        [[Kill(service, AT_RANDOM), *kills[number::rounds]] for service, kills in named.items()]
        for number in range(rounds)
    ]


async def run_chain(stack: FaultyStack, kills: Sequence[Kill], *, chosen: random.Random) -> list[Killed]:
    """Kill one service again and again; it runs before and after."""
    results = []
    for kill, following in zip(kills, chain(kills[1:], [None]), strict=True):
        child = stack.stack.children[kill.service]
        ended_by_itself = await _ended(stack, child, kill, chosen)
        away = time.monotonic()
        stack.stack.children.pop(kill.service).kill()
        environment = {"FAILPOINTS": following.failpoint} if following and following.failpoint else {}
        stack.start_part(kill.service, **environment)
        if following is None or following.where not in AT_START:
            await _ready(stack.stack.children[kill.service])
        results.append(Killed(kill, ended_by_itself, round(time.monotonic() - away, 1)))
    return results


async def _ended(stack: FaultyStack, child: Child, kill: Kill, chosen: random.Random) -> bool:
    """Bring the end about, and return whether it came as it was meant to."""
    if not kill.failpoint:
        await _random_moment(stack, child, kill, chosen)
        return True
    if dependency := NEEDS_OUTAGE_OF.get((kill.service, kill.where)):
        stack.kit.set(dependency, REFUSE)
        await asyncio.sleep(1.0)
        stack.kit.set(dependency, PASS)
    deadline = time.monotonic() + REACHED_WITHIN_S
    while child.exit_status is None and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
        await asyncio.sleep(LOOK_S)
    return child.exit_status == -signal.SIGKILL


async def _random_moment(stack: FaultyStack, child: Child, kill: Kill, chosen: random.Random) -> None:
    slowed = SLOWED.get(kill.where)
    if slowed:
        stack.kit.set(slowed, SLOWLY)
    await asyncio.sleep(chosen.uniform(*RANDOM_WITHIN_S))
    if kill.where == WHILE_STOPPING:
        os.kill(child.pid, signal.SIGTERM)
        await asyncio.sleep(chosen.uniform(*STOPPING_S))
    if slowed:
        child.kill()  # before what was held back goes on
        stack.kit.set(slowed, PASS)


async def _ready(child: Child) -> None:
    """Wait until the service does its work, or ended at the point that it was started with."""
    async with asyncio.timeout(READY_WITHIN_S):
        while child.exit_status is None:
            if await asyncio.to_thread(child.is_ready):
                return
            await asyncio.sleep(ASK_S)
    if child.exit_status != -signal.SIGKILL:
        raise DidNotStartError("\n".join(child.last_lines()))
