"""Rebuilds the velocity state of an institution in Valkey from its decisions, while others go on scoring.

Everything within the longest window is counted into a generation of its own. For the last few decisions nobody may
observe (a fence of some seconds: what is decided meanwhile is counted later), then the generation is put to use.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy import Connection
from valkey.exceptions import ResponseError

from ai_service.features.shared_store import SharedVelocity, new_generation
from ai_service.features.store import Located
from ai_service.features.velocity import LONGEST_WINDOW_US
from ai_service.scoring import velocity_repository as repository
from ai_service.scoring.recovery import located_of
from ai_service.scoring.velocity_repository import ObservedRecord, Span
from common.clock import epoch_ms
from common.valkey.calls import ValkeyAwayError, ValkeyCalls
from common.writer import DatabaseWriter

LEASE_MS = 30_000
LOOK_AGAIN_S = 0.1
FEW_DECISIONS = 200
MAX_PASSES = 20
SCAN_COUNT = 1000
PAUSES_S = (0.1, 0.5, 2.0)
Progress = Callable[[int], None]
"""Is told how many more decisions were counted."""
_log = structlog.get_logger()


class RebuildInterruptedError(Exception):
    """Another process took the rebuild over, or it took too long at the end; the state in use was not changed."""


@dataclass(frozen=True)
class Lease:
    """What keeps others from doing the same work for one institution."""

    velocity: SharedVelocity
    key: bytes
    token: bytes

    async def keep(self) -> None:
        """Keep it for another while; raises `RebuildInterruptedError` when it was lost."""
        if not await self.velocity.call("keep_lease", [self.key], self.token, LEASE_MS):
            raise RebuildInterruptedError

    async def give_back(self) -> None:
        """Let others have it."""
        await self.velocity.call("keep_lease", [self.key], self.token, 0)


@asynccontextmanager
async def leased(
    calls: ValkeyCalls, velocity: SharedVelocity, institution_id: str, *, patience_s: float = 0.0
) -> AsyncIterator[Lease | None]:
    """Yield the lease of an institution's upkeep; None when another process has it for longer than `patience_s`."""
    lease = Lease(velocity, velocity.keys_of(institution_id).lease, secrets.token_hex(8).encode())
    patient_until = time.monotonic() + patience_s
    while await calls.call("SET", lease.key, lease.token, "NX", "PX", LEASE_MS) is None:
        if time.monotonic() >= patient_until:
            yield None
            return
        await asyncio.sleep(LOOK_AGAIN_S)
    try:
        yield lease
    finally:
        await lease.give_back()


@dataclass(frozen=True)
class Rebuilding:
    """Counts an institution's decisions again."""

    calls: ValkeyCalls
    velocity: SharedVelocity
    reader: DatabaseWriter

    async def run(self, institution_id: str, lease: Lease, *, progress: Progress | None = None) -> int:
        """Put a fresh state to use and return how many decisions it counted; raises `RebuildInterruptedError`."""
        keys, generation = self.velocity.keys_of(institution_id), new_generation()
        try:
            counted, sequence = await self._build(institution_id, generation, lease, progress)
        except BaseException:
            with suppress(ValkeyAwayError, ResponseError):
                await self._forget(keys.everything_of(generation))
            raise
        before = await self.calls.call("HGET", keys.state, "generation")
        # when this is not answered it may have been done all the same: then the new keys are left alone
        if not await self.velocity.call(
            "switch", [keys.state, keys.lease], lease.token, generation, sequence
        ):
            await self._forget(keys.everything_of(generation))
            raise RebuildInterruptedError
        _log.info("velocity.rebuilt", institution_id=institution_id, decisions=counted)
        if before:
            await self._forget(keys.everything_of(before))
        return counted

    async def _build(
        self, institution_id: str, generation: bytes, lease: Lease, progress: Progress | None
    ) -> tuple[int, int]:
        """Count everything into `generation`, the end behind the fence; return how many, and the last sequence."""
        keys = self.velocity.keys_of(institution_id)
        since_ms = epoch_ms() - LONGEST_WINDOW_US // 1000
        counted, reached, last = 0, 0, await self._ask(repository.last_decision, institution_id)
        for _ in range(MAX_PASSES):
            counted += await self._count(
                generation, Span(institution_id, reached, last, since_ms), lease, progress
            )
            reached, last = last, await self._ask(repository.last_decision, institution_id)
            if last - reached <= FEW_DECISIONS:
                break
        await self._held(self.velocity.call("fence", [keys.state, keys.lease], lease.token))
        last = await self._ask(repository.last_decision, institution_id)
        counted += await self._count(
            generation, Span(institution_id, reached, last, since_ms), lease, progress
        )
        return counted, await self._ask(repository.last_observed, institution_id)

    async def _count(self, generation: bytes, span: Span, lease: Lease, progress: Progress | None) -> int:
        counted = 0
        after: ObservedRecord | None = None
        while True:
            page, located = await self.reader.run(partial(_read, span=span, after=after))
            if not page:
                return counted
            await self._restore(generation, located, lease)
            counted, after = counted + len(page), page[-1]
            if progress is not None:
                progress(len(page))

    async def _restore(self, generation: bytes, located: Sequence[Located], lease: Lease) -> None:
        """Count one page; what was counted before a try failed is not counted again by the next."""
        for pause_s in PAUSES_S:
            try:
                await lease.keep()
                await self.velocity.restore(generation, located, as_of_us=epoch_ms() * 1000)
            except ValkeyAwayError:
                await asyncio.sleep(pause_s)
            else:
                return
        await lease.keep()
        await self.velocity.restore(generation, located, as_of_us=epoch_ms() * 1000)

    async def _ask(self, question: Callable[[Connection, str], int], institution_id: str) -> int:
        return await self.reader.run(lambda connection: question(connection, institution_id))

    async def _held(self, call: Awaitable[int]) -> None:
        if not await call:
            raise RebuildInterruptedError

    async def _forget(self, pattern: bytes) -> None:
        """Free what an earlier generation held; what is not found here expires by itself."""
        cursor: int | bytes = 0
        while True:
            cursor, keys = await self.calls.call("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            if keys:
                await self.calls.call("UNLINK", *keys)
            if int(cursor) == 0:
                return


def _read(
    connection: Connection, span: Span, after: ObservedRecord | None
) -> tuple[list[ObservedRecord], list[Located]]:
    page = repository.observed_page(connection, span, after=after)
    return page, [located_of(each.body) for each in page]
