"""The velocity state in Valkey, for as many processes as there are: one round trip for all who wait together."""

import asyncio
import secrets
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog
from prometheus_client import Counter
from valkey.exceptions import ResponseError

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.keys import COUNT, OBSERVE, RESTORE, InstitutionKeys, words
from ai_service.features.store import Located, Name
from ai_service.features.velocity import READING_SHAPE, Entity, VelocityReading, nothing_known
from common.circuit import Circuit
from common.contracts.geoip import GeoLocation
from common.valkey.calls import FunctionLibrary, ValkeyAwayError, ValkeyCalls

UNKNOWN_READINGS = Counter(
    "assay_velocity_unknown_total", "Transactions that were scored without velocity.", ["because"]
)
MAX_PENDING = 100_000
COUNTED_TOGETHER = 50  # takes Valkey some milliseconds, far from the deadline of a call
RETRY_S = 0.5
MAX_TRIES = 3
"""How often a call is made whose institution got another generation meanwhile."""
_COLUMNS = READING_SHAPE[1]
_log = structlog.get_logger()


class Observed(NamedTuple):
    """What the function answers: the generation it counted in, the sequence, whether it counted, and the reading."""

    generation: bytes
    observed_sequence: int
    counted: int
    packed: bytes


def _library() -> FunctionLibrary:
    """Return the functions under a name of their own, so that processes of two releases do not meet."""
    source = Path(__file__).with_name("velocity.lua").read_text()
    name = f"assay_velocity_{sha256(source.encode()).hexdigest()[:8]}"
    return FunctionLibrary(name, source.replace("assay_velocity", name))


LIBRARY = _library()


class SharedVelocity:
    """Observes through Valkey. While it is away, nothing is known, and what is decided is counted later.

    `is_new` tells whether an institution has no decisions at all: one that has some and no state is read again only
    when the state was rebuilt. `uncounted` is told of decisions that were counted in a state which is no longer in use.
    """

    def __init__(
        self,
        calls: ValkeyCalls,
        *,
        circuit: Circuit,
        is_new: Callable[[str], Awaitable[bool]],
        uncounted: Callable[[Sequence[Name]], Awaitable[None]],
    ) -> None:
        self._calls = calls
        self._circuit = circuit
        self._is_new = is_new
        self._uncounted = uncounted
        self._keys: dict[str, InstitutionKeys] = {}
        self._generations: dict[str, bytes] = {}
        self._beginning = asyncio.Lock()
        self._with_decisions: set[str] = set()
        self._counted_in: OrderedDict[Name, bytes] = OrderedDict()
        self._saved: list[Name] = []
        self._something_saved = asyncio.Event()

    async def observe_all(self, waiting: Sequence[Located]) -> list[VelocityReading]:
        """Return the reading of each, or that nothing is known; only a mistake of ours raises."""
        if not self._circuit.admits():
            return _all_unknown(len(waiting), "away")
        found = await asyncio.gather(
            *(self._observed(accepted, location) for accepted, location in waiting), return_exceptions=True
        )
        refusals = [each for each in found if isinstance(each, ValkeyAwayError | ResponseError)]
        if refusals:
            self._circuit.failed()
            _log.warning("velocity.refused", items=len(refusals), error=_reason(refusals[0]))
        else:
            self._circuit.succeeded()
        return [_reading_or_raise(each) for each in found]

    def saved(self, names: Sequence[Name]) -> None:
        """Note durable decisions; `tell_saved` passes it on, so that no payer waits for it."""
        self._saved += names
        self._something_saved.set()

    async def tell_saved(self) -> None:
        """Pass on what is durable; runs until cancelled. What Valkey cannot be told now is kept."""
        while True:
            await self._something_saved.wait()
            self._something_saved.clear()
            try:
                await self._tell_saved()
            except (ValkeyAwayError, ResponseError):
                del self._saved[:-MAX_PENDING]
                await asyncio.sleep(RETRY_S)
                self._something_saved.set()

    async def drain(self) -> None:
        """Pass on what is durable once more; for a graceful stop."""
        try:
            await self._tell_saved()
        except (ValkeyAwayError, ResponseError) as error:
            _log.warning("velocity.saved_not_told", decisions=len(self._saved), error=_reason(error))

    async def count(self, waiting: Sequence[Located]) -> list[Observed | None]:
        """Count decided transactions that were not counted; None where there is no state to count in."""
        found: list[Observed | None] = []
        for start in range(0, len(waiting), COUNTED_TOGETHER):
            some = waiting[start : start + COUNTED_TOGETHER]
            found += await asyncio.gather(*(self._called(*each, mode=COUNT) for each in some))
        return found

    async def restore(self, generation: bytes, waiting: Sequence[Located], *, as_of_us: int) -> None:
        """Count decided transactions in a generation that is not in use yet, in this order."""
        for start in range(0, len(waiting), COUNTED_TOGETHER):
            await asyncio.gather(
                *(
                    self._call(accepted, location, RESTORE, generation, as_of_us=as_of_us)
                    for accepted, location in waiting[start : start + COUNTED_TOGETHER]
                )
            )

    def keys_of(self, institution_id: str) -> InstitutionKeys:
        """Return the keys of one institution."""
        keys = self._keys.get(institution_id)
        if keys is None:
            keys = self._keys[institution_id] = InstitutionKeys(institution_id)
        return keys

    async def call(self, name: str, keys: Sequence[bytes], *arguments: bytes | int) -> Any:  # noqa: ANN401 - what Valkey answers
        """Return what one of the library's functions answers."""
        return await self._calls.call_function(LIBRARY, f"{LIBRARY.name}_{name}", keys, arguments)

    async def _observed(self, accepted: AcceptedTransaction, location: GeoLocation) -> VelocityReading:
        observed = await self._called(accepted, location, mode=OBSERVE)
        if observed is None:
            UNKNOWN_READINGS.labels("rebuilding").inc()
            return nothing_known()
        name = accepted.institution_id, accepted.transaction.transaction_id
        self._counted_in[name] = observed.generation
        if len(self._counted_in) > MAX_PENDING:
            self._counted_in.popitem(last=False)
        return VelocityReading(unpacked(observed.packed), observed.observed_sequence, bool(observed.counted))

    async def _called(
        self, accepted: AcceptedTransaction, location: GeoLocation, *, mode: int
    ) -> Observed | None:
        institution_id = accepted.institution_id
        for _ in range(MAX_TRIES):
            generation = self._generations.get(institution_id, b"")
            answer = await self._call(accepted, location, mode, generation, as_of_us=accepted.received_at_us)
            if len(answer) > 1:
                return Observed(*answer)
            in_use = answer[0] or await self._begun(institution_id)
            if not in_use:
                return None
            self._generations[institution_id] = in_use
        return None

    async def _call(
        self,
        accepted: AcceptedTransaction,
        location: GeoLocation,
        mode: int,
        generation: bytes,
        *,
        as_of_us: int,
    ) -> list[Any]:
        keys, mask = self.keys_of(accepted.institution_id).of(generation, accepted)
        packed = words(accepted, location, mode=mode, mask=mask, as_of_us=as_of_us)
        answer: list[Any] = await self.call("observe", keys, generation, packed)
        return answer

    async def _begun(self, institution_id: str) -> bytes:
        """Begin the state of a new institution and return its generation; empty for one that has to be rebuilt."""
        async with self._beginning:  # those who wait together ask once
            if institution_id in self._with_decisions or not await self._is_new(institution_id):
                self._with_decisions.add(institution_id)
                return b""
            state = self.keys_of(institution_id).state
            begun: bytes = await self.call("begin", [state], new_generation())
            return begun

    async def _tell_saved(self) -> None:
        names, uncounted = tuple(self._saved), []
        for (institution_id, generation), transaction_ids in self._by_generation(names).items():
            keys = self.keys_of(institution_id)
            unsaved = [keys.unsaved(generation, each) for each in transaction_ids]
            if not await self.call("saved", [keys.state, *unsaved], generation):
                uncounted += [(institution_id, each) for each in transaction_ids]
        if uncounted:
            await self._uncounted(uncounted)
        del self._saved[: len(names)]
        for name in names:
            self._counted_in.pop(name, None)

    def _by_generation(self, names: Sequence[Name]) -> Mapping[tuple[str, bytes], list[str]]:
        found: dict[tuple[str, bytes], list[str]] = defaultdict(list)
        for institution_id, transaction_id in names:
            generation = self._counted_in.get((institution_id, transaction_id))
            if generation is not None:  # otherwise it was decided without velocity
                found[institution_id, generation].append(transaction_id)
        return found


def new_generation() -> bytes:
    """Return a name that no generation had."""
    return secrets.token_hex(4).encode()


def unpacked(packed: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a reading's values: the function answers `KNOWN` of each entity, then the rows of those seen before."""
    values = np.zeros(READING_SHAPE, dtype=np.int64)
    entities = len(Entity)
    values[:, 0] = np.frombuffer(packed, dtype=np.uint8, count=entities)
    values[values[:, 0] == 2, 1:] = np.frombuffer(packed, dtype="<i8", offset=entities).reshape(
        -1, _COLUMNS - 1
    )
    return values


def _reading_or_raise(found: VelocityReading | BaseException) -> VelocityReading:
    if isinstance(found, VelocityReading):
        return found
    if isinstance(found, ValkeyAwayError | ResponseError):
        return _all_unknown(1, "away")[0]
    raise found


def _all_unknown(count: int, because: str) -> list[VelocityReading]:
    UNKNOWN_READINGS.labels(because).inc(count)
    return [nothing_known() for _ in range(count)]


def _reason(error: BaseException) -> str:
    """Return what is wrong, without what was sent: the first word of Valkey's answer says its kind."""
    return (
        str(error).split(" ", 1)[0]
        if isinstance(error, ResponseError)
        else type(error.__cause__ or error).__name__
    )
