"""Rate limits that processes share: counted in Valkey, by its clock, in the windows that one process counts in."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from prometheus_client import Counter, Gauge

from common.rate_limits.windows import Policy, Window
from common.valkey.calls import FunctionLibrary, ValkeyAwayError, ValkeyCalls, ValkeyRefusedError

LIBRARY: Final = FunctionLibrary("assay_limits_1", Path(__file__).with_name("spend.lua").read_text())
SPEND: Final = "assay_spend_1"
COUNTED_HERE = Counter(
    "assay_rate_limits_counted_here_total",
    "Requests that this process counted for itself alone, because the shared store did not.",
)
SHARED = Gauge(
    "assay_rate_limits_shared",
    "1 while requests are counted together with other processes.",
    multiprocess_mode="livemin",
)
_log = structlog.get_logger()


class Spent(NamedTuple):
    """What is left of a budget, -1 where it was spent already, and its windows."""

    left: int
    window: Window


class SharedCounts:
    """Counts the requests of one service, whichever of its processes they came to.

    Each counts at once and in one round trip, all budgets of it together; requests of one moment share that.
    """

    def __init__(self, calls: ValkeyCalls, *, service: str) -> None:
        self._calls = calls
        self._service = service
        self._is_counting = True
        SHARED.set(1)

    def caller_keys(self, institution_id: str, caller: str) -> tuple[str, str]:
        """Return the keys of a caller and of its institution; both are of one slot of a cluster."""
        of_institution = f"assay:{{{institution_id}}}:rate:{self._service}"
        return f"{of_institution}:caller:{caller}", of_institution

    def address_key(self, kind: str, client: str) -> str:
        """Return the key of a client address; the digest keeps addresses from being read at a glance, no more."""
        return f"assay:rate:{self._service}:{kind}:{blake2b(client.encode(), digest_size=12).hexdigest()}"

    async def spend(self, keys: Sequence[str], policies: Sequence[Policy]) -> Sequence[Spent] | None:
        """Count one against each key, until one is spent; None where it cannot be counted together now."""
        if self._calls.is_away:
            self._note(counted=False)
            return None
        arguments = [number for policy in policies for number in (policy.limit, policy.seconds)]
        try:
            found = await self._calls.call_function(LIBRARY, SPEND, keys, arguments)
        except (ValkeyAwayError, ValkeyRefusedError) as error:
            self._note(counted=False, error=str(error))
            return None
        self._note(counted=True)
        return [
            Spent(found[at], Window(found[at + 1], found[at + 2], found[at + 3] / 1e6))
            for at in range(0, len(found), 4)
        ]

    def _note(self, *, counted: bool, error: str = "") -> None:
        if not counted:
            COUNTED_HERE.inc()
        if counted is self._is_counting:
            return
        self._is_counting = counted
        SHARED.set(int(counted))
        if counted:
            _log.info("rate_limits.shared_again")
        else:
            _log.warning("rate_limits.counted_here", error=error)
