"""Opens the velocity state: in this process, or in the Valkey that several processes share."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from ai_service.features.shared_store import SharedVelocity
from ai_service.features.store import Name, VelocityStore
from ai_service.scoring import velocity_repository as repository
from ai_service.scoring.catching_up import CatchingUp
from ai_service.scoring.rebuilding import Rebuilding
from ai_service.scoring.recovery import SnapshotKeeper, restore_velocity
from ai_service.scoring.velocity_upkeep import VelocityUpkeep, check_memory
from ai_service.settings import AiSettings
from common.background import Loop
from common.circuit import Circuit
from common.clock import epoch_ms
from common.valkey.calls import ValkeyCalls
from common.writer import DatabaseWriter

FAILED_CALLS = 3  # in a row, before nobody waits for Valkey
PROBE_EVERY_S = 1.0


@dataclass(frozen=True)
class OpenedVelocity:
    """The store, what has to run beside it, and what /ready asks of it."""

    store: VelocityStore
    loops: Sequence[Loop]
    readiness: Mapping[str, Callable[[], Awaitable[bool]]] = field(default_factory=dict)


def open_velocity(
    settings: AiSettings, calls: ValkeyCalls | None, *, reader: DatabaseWriter, writer: DatabaseWriter
) -> AbstractAsyncContextManager[OpenedVelocity]:
    """Open the state in Valkey where `calls` are given, otherwise in this process."""
    return _embedded(settings, reader) if calls is None else _shared(settings, calls, reader, writer)


@asynccontextmanager
async def _embedded(settings: AiSettings, reader: DatabaseWriter) -> AsyncIterator[OpenedVelocity]:
    path = settings.velocity_snapshot
    store = await reader.run(lambda c: restore_velocity(c, path, now_ms=epoch_ms()))
    keeper = SnapshotKeeper(store, reader, path, settings.velocity_snapshot_s)
    yield OpenedVelocity(store, [keeper.run])
    await keeper.write()


@asynccontextmanager
async def _shared(
    settings: AiSettings, calls: ValkeyCalls, reader: DatabaseWriter, writer: DatabaseWriter
) -> AsyncIterator[OpenedVelocity]:
    await check_memory(calls, settings.environment)
    store = shared_velocity(calls, reader=reader, writer=writer)
    rebuilding, catching_up = Rebuilding(calls, store, reader), CatchingUp(store, reader, writer)
    upkeep = VelocityUpkeep(calls, store, reader, rebuilding, catching_up)
    yield OpenedVelocity(store, [store.tell_saved, upkeep.run], {"velocity_asked": upkeep.is_asked})
    await store.drain()


def shared_velocity(calls: ValkeyCalls, *, reader: DatabaseWriter, writer: DatabaseWriter) -> SharedVelocity:
    """Return the store that counts in Valkey; what it cannot count is noted in the database."""

    async def is_new(institution_id: str) -> bool:
        return not await reader.run(lambda c: repository.last_decision(c, institution_id))

    async def uncounted(names: Sequence[Name]) -> None:
        for institution_id, group in groupby(sorted(names), key=lambda name: name[0]):
            transaction_ids = [transaction_id for _, transaction_id in group]
            note = partial(
                repository.note_uncounted, institution_id=institution_id, transaction_ids=transaction_ids
            )
            await writer.run(note)

    circuit = Circuit("velocity", failures_to_open=FAILED_CALLS, probe_every_s=PROBE_EVERY_S)
    return SharedVelocity(calls, circuit=circuit, is_new=is_new, uncounted=uncounted)
