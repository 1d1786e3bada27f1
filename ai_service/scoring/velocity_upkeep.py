"""Looks after the velocity state in Valkey: its memory, states that are missing, decisions that are not counted yet."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog
from prometheus_client import Gauge
from valkey.exceptions import ResponseError

from ai_service.features.shared_store import SharedVelocity
from ai_service.scoring import repository as decisions
from ai_service.scoring import velocity_repository as repository
from ai_service.scoring.catching_up import CatchingUp
from ai_service.scoring.rebuilding import Rebuilding, RebuildInterruptedError, leased
from ai_service.scoring.recovery import VELOCITY_EVICTIONS
from common.errors import StartupError
from common.metrics import follow
from common.settings import Environment
from common.valkey.calls import ValkeyAwayError, ValkeyCalls
from common.writer import DatabaseWriter

ROUND_S = 5.0
FITTING_POLICIES = frozenset({"volatile-lru", "volatile-lfu", "volatile-ttl"})
VELOCITY_MEMORY = Gauge(
    "assay_velocity_memory_bytes",
    "Memory of Valkey: used, and at most.",
    ["of"],
    multiprocess_mode="livemostrecent",
)
VELOCITY_TO_COUNT = Gauge(
    "assay_velocity_institutions_to_count",
    "Institutions with decisions that velocity has not counted yet.",
    multiprocess_mode="livemostrecent",
)
_log = structlog.get_logger()


class UnboundedValkeyError(StartupError):
    """Valkey has no memory limit, or would throw away or refuse the wrong things when it is reached."""


@dataclass
class VelocityUpkeep:
    """One look every few seconds; `asked` is whether Valkey was asked once, whatever it said."""

    calls: ValkeyCalls
    velocity: SharedVelocity
    reader: DatabaseWriter
    rebuilding: Rebuilding
    catching_up: CatchingUp
    asked: bool = field(default=False, init=False)
    _was_away: bool = field(default=True, init=False)
    _last_look: dict[str, tuple[bytes, int]] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Look after the state until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(ROUND_S)

    async def look(self) -> None:
        """Look once; while Valkey is away nothing is done."""
        try:
            await measure(self.calls)
            self.asked = True  # a rebuild may take minutes; scoring goes on
            await self._rebuild_missing()
            await self._catch_up()
            self._was_away = False
        except (ValkeyAwayError, ResponseError, RebuildInterruptedError) as error:
            self._was_away = True
            _log.warning("velocity.upkeep_failed", error=type(error).__name__)
        finally:
            self.asked = True

    async def is_asked(self) -> bool:
        """Readiness: whether Valkey was asked for its state; scoring goes on without."""
        return self.asked

    async def _rebuild_missing(self) -> None:
        for institution_id in await self.reader.run(decisions.last_sequences):
            if await self._is_whole(institution_id):
                continue
            async with leased(self.calls, self.velocity, institution_id) as lease:
                if lease is not None and not await self._is_whole(institution_id):
                    await self.rebuilding.run(institution_id, lease)
                    # at once: until then what was decided without Valkey is missing in what is known
                    await self.catching_up.run(institution_id, lease)

    async def _is_whole(self, institution_id: str) -> bool:
        """Whether there is a state, and none that went back to an earlier moment: a copy, or what was on a disk.

        One that another run of Valkey counted in may lack what that had not yet written or copied when it ended, which
        no number tells once others have counted on.
        """
        noted = 0
        if self._was_away:
            noted = await self.reader.run(lambda c: repository.lately_observed(c, institution_id))
        state = self.velocity.keys_of(institution_id).state
        generation, found, is_of_this_run = await self.velocity.call("look", [state])
        if generation is None or not is_of_this_run:
            return False
        sequence, last_look = int(found or 0), self._last_look.get(institution_id)
        if last_look is not None and last_look[0] == generation:
            noted = max(noted, last_look[1])
        if sequence < noted:
            return False
        self._last_look[institution_id] = (generation, sequence)
        return True

    async def _catch_up(self) -> None:
        waiting = await self.reader.run(repository.institutions_not_observed)
        VELOCITY_TO_COUNT.set(len(waiting))
        for institution_id in waiting:
            async with leased(self.calls, self.velocity, institution_id) as lease:
                if lease is not None:
                    await self.catching_up.run(institution_id, lease)


async def measure(calls: ValkeyCalls) -> Mapping[str, str]:
    """Show Valkey's memory on /metrics and return what it says of itself; in a cluster, that of one node."""
    said: bytes = await calls.call("INFO", "everything")
    lines = (line.partition(":") for line in said.decode().splitlines())
    info = {name: value for name, _, value in lines}
    VELOCITY_MEMORY.labels("used").set(float(info["used_memory"]))
    VELOCITY_MEMORY.labels("at_most").set(float(info["maxmemory"]))
    follow(VELOCITY_EVICTIONS, partial(float, info["evicted_keys"]))
    return info


async def check_memory(calls: ValkeyCalls, environment: Environment) -> None:
    """Warn when Valkey is not bounded as it should be; in production raise `UnboundedValkeyError` instead.

    A Valkey that is away is not asked: this service starts without it.
    """
    try:
        info = await measure(calls)
    except (ValkeyAwayError, ResponseError) as error:
        _log.warning("velocity.memory_unknown", error=type(error).__name__)
        return
    wrong = _wrong(info)
    if wrong and environment is Environment.PRODUCTION:
        raise UnboundedValkeyError(wrong)
    if wrong:
        _log.warning("velocity.memory_unbounded", reason=wrong)


def _wrong(info: Mapping[str, str]) -> str:
    if not int(info["maxmemory"]):
        return "Valkey has no maxmemory: set one (and maxmemory-policy volatile-lru), so that it cannot take all there is."
    if info["maxmemory_policy"] not in FITTING_POLICIES:
        return (
            f"Valkey's maxmemory-policy is {info['maxmemory_policy']}: set volatile-lru. Policies of allkeys throw away what "
            "says that the state is whole, noeviction refuses to count, and volatile-random throws away busy entities."
        )
    return ""
