"""Moves records from the spool into the archive: decides objects, stores them, and begins again where it stopped.

An object's key, members and digest are committed before anything is sent, so that every later try, also after a crash,
writes the same bytes under the same key, and the archive takes them once.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from common.canonical import sha256_hex
from common.clock import epoch_ms
from common.failpoints import failpoint
from common.outbox import backoff_ms
from common.writer import DatabaseWriter
from log_service.archive import repository
from log_service.archive.metrics import OBJECTS, OBJECTS_WAITING, PUT_SECONDS, TAMPERING
from log_service.archive.objects import DamagedObjectError, compress, content_of, decompress, largest_size
from log_service.archive.ownership import NotOwnerError, Ownership
from log_service.archive.reading import DatabaseReader
from log_service.archive.repository import Content, SealedObject
from log_service.archive.s3_store import ArchiveUnavailableError, ObjectMissingError, PutOutcome, S3Store
from log_service.archive.sealing import Group, WaitingRecord, due, least_records
from log_service.archive.spool import AuditSpool

PROBE_S = 15.0
BODIES_A_COMMIT = 200  # 3 ms; a thousand at once take 30 ms
_log = structlog.get_logger()


class Attempt(StrEnum):
    """What became of one try to store an object."""

    STORED = "stored"
    CONFLICT = "conflict"
    DAMAGED = "damaged"
    FAILED = "failed"


@dataclass(frozen=True)
class Archiver:
    """The two loops behind the spool: sealing and storing."""

    ownership: Ownership
    reader: DatabaseReader
    writer: DatabaseWriter
    spool: AuditSpool
    store: S3Store
    interval_s: float
    object_records: int
    concurrency: int
    sealed: asyncio.Event

    async def keep_sealing(self) -> None:
        """Turn waiting records into objects at every interval, and sooner when many have come."""
        next_tick = time.monotonic()
        while True:
            await _wait(self.spool.arrived, max(0.0, next_tick - time.monotonic()))
            self.spool.take_arrived()
            interval_passed = time.monotonic() >= next_tick
            if interval_passed:
                next_tick = time.monotonic() + self.interval_s
            await self.seal_due(interval_passed=interval_passed)

    async def seal_due(self, *, interval_passed: bool) -> None:
        """Decide the objects that are due."""
        await self.ownership.confirm()
        waiting_objects = await self.reader.run(repository.count_sealed)
        OBJECTS_WAITING.set(waiting_objects)
        least = least_records(
            full=self.object_records, interval_passed=interval_passed, waiting_objects=waiting_objects
        )
        await self._seal(least)

    async def keep_storing(self) -> None:
        """Store sealed objects until cancelled.

        After a failure one object is tried at a time, with growing pauses; the first success ends both.
        """
        failures = 0
        for object_id in await self.reader.run(repository.objects_to_clear):
            await self._clear(object_id)
        await self.store.probe()
        while True:
            self.sealed.clear()
            attempts = await self.store_some(1 if failures else self.concurrency)
            if not attempts:
                if not await _wait(self.sealed, PROBE_S):
                    await self.store.probe()
            elif set(attempts) == {Attempt.FAILED}:
                failures += 1
                await asyncio.sleep(backoff_ms(failures) / 1000)
            else:
                failures = 0

    async def store_some(self, limit: int) -> list[Attempt]:
        """Try up to `limit` objects at the same time and return what became of each."""
        await self.ownership.confirm()
        objects = await self.reader.run(lambda c: repository.sealed_objects(c, limit=limit))
        return await _all([self._store(sealed) for sealed in objects])

    async def finish(self, *, timeout_s: float) -> None:
        """Seal everything and store as much as `timeout_s` and the archive allow; the rest stays in the spool."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.writer.settle()  # an object whose sealing was cancelled is decided all the same
                await self.ownership.confirm()
                await self._seal(least=1)
                while attempts := await self.store_some(self.concurrency):
                    if Attempt.FAILED in attempts:
                        break
        except (TimeoutError, NotOwnerError):
            _log.warning("archive.not_finished")
        _log.info("archive.finished", spooled=self.spool.spooled_records)

    async def _seal(self, least: int) -> None:
        for waiting in due(await self.reader.run(repository.waiting_groups), least=least):
            remaining = waiting.records
            while remaining >= least and (taken := await self._seal_one(waiting.group)):
                remaining -= taken

    async def _seal_one(self, group: Group) -> int:
        """Decide one object of `group` and return how many records it took."""
        waiting = await self.reader.run(
            lambda c: repository.waiting_records(c, group, limit=self.object_records)
        )
        records = waiting.records
        if waiting.lost:
            await self._give_up_lost(group, waiting.lost)
        if not records:
            return len(waiting.lost)
        content = await asyncio.to_thread(_content, group, records)
        now = epoch_ms()
        key = await self.writer.run(lambda c: repository.seal(c, content, now=now))
        failpoint("object.after_seal")
        _log.info("object.sealed", key=key, records=len(records), sha256=content.sha256)
        self.sealed.set()
        return len(records) + len(waiting.lost)

    async def _give_up_lost(self, group: Group, lost: tuple[str, ...]) -> None:
        """Raise the alarm for records without a body, once; the others go their way."""
        count = await self.writer.run(lambda c: repository.give_up_lost(c, lost))
        TAMPERING.labels("spool").inc(count)
        _log.error("spool.damaged", institution_id=group.institution_id, day=group.day, records=count)

    async def _store(self, sealed: SealedObject) -> Attempt:
        """Try one object; never raises for anything the archive does."""
        try:
            attempt = await self._put(sealed)
        except (ArchiveUnavailableError, ObjectMissingError) as error:
            reason = str(error) or type(error).__name__
            _log.warning("object.not_stored", key=sealed.key, reason=reason)
            await self.writer.run(lambda c: repository.mark_failed(c, sealed.object_id, error=reason))
            attempt = Attempt.FAILED
        OBJECTS.labels(attempt.value).inc()
        return attempt

    async def _put(self, sealed: SealedObject) -> Attempt:
        bodies = await self.reader.run(lambda c: repository.bodies_of(c, sealed.object_id))
        data = await asyncio.to_thread(_packed, bodies, sealed)
        if data is None:
            return await self._give_up_damaged(sealed)
        with PUT_SECONDS.time():
            outcome = await self.store.put(sealed.key, data, facts=_facts(sealed))
        failpoint("object.after_put")
        if outcome is PutOutcome.TAKEN and not await self._is_ours(sealed):
            return await self._give_up_conflict(sealed)
        now = epoch_ms()
        if not await self.writer.run(lambda c: repository.mark_stored(c, sealed.object_id, now=now)):
            return await self._settled_before(sealed)
        failpoint("object.after_mark")
        await self._clear(sealed.object_id)
        _log.info("object.stored", key=sealed.key, records=sealed.record_count, bytes=len(data))
        return Attempt.STORED

    async def _give_up_damaged(self, sealed: SealedObject) -> Attempt:
        if not await self.writer.run(lambda c: repository.mark_damaged(c, sealed.object_id)):
            return await self._settled_before(sealed)
        TAMPERING.labels("spool").inc()
        _log.error("spool.damaged", key=sealed.key)
        return Attempt.DAMAGED

    async def _give_up_conflict(self, sealed: SealedObject) -> Attempt:
        if not await self.writer.run(lambda c: repository.mark_conflict(c, sealed.object_id)):
            return await self._settled_before(sealed)
        TAMPERING.labels("object").inc()
        _log.error("object.conflict", key=sealed.key, sha256=sealed.sha256)
        return Attempt.CONFLICT

    async def _settled_before(self, sealed: SealedObject) -> Attempt:
        """Return what became of an object that somebody settled after it was listed."""
        state = await self.reader.run(lambda c: repository.state_of(c, sealed.object_id))
        _log.warning("object.settled_before", key=sealed.key, state=state.value)
        return Attempt(state.value)

    async def _clear(self, object_id: int) -> None:
        """Drop the bodies of a stored object, a few in each transaction so that nobody waits long to commit."""
        record_ids = await self.reader.run(lambda c: repository.members(c, object_id))
        for start in range(0, len(record_ids), BODIES_A_COMMIT):
            some = record_ids[start : start + BODIES_A_COMMIT]
            failpoint("object.while_clearing")
            self.spool.left(await self.writer.run(lambda c, some=some: repository.drop_bodies(c, some)))  # type: ignore[misc]
        await self.writer.run(lambda c: repository.mark_cleared(c, object_id))

    async def _is_ours(self, sealed: SealedObject) -> bool:
        """Whether an earlier try put the very content under the key that is taken."""
        found = await self.store.fetch(sealed.key, max_bytes=largest_size(sealed.content_bytes))
        try:
            content = await asyncio.to_thread(decompress, found, expected_bytes=sealed.content_bytes)
        except DamagedObjectError:
            return False
        return sha256_hex(content) == sealed.sha256


def _content(group: Group, records: Sequence[WaitingRecord]) -> Content:
    content = content_of([record.body for record in records])
    return Content(
        group=group,
        record_ids=tuple([record.record_id for record in records]),
        first_sequence=records[0].sequence,
        last_sequence=records[-1].sequence,
        content_bytes=len(content),
        sha256=sha256_hex(content),
    )


def _packed(bodies: list[bytes], sealed: SealedObject) -> bytes | None:
    """Return the bytes to store, or nothing when `bodies` are not those the object was sealed with."""
    content = content_of(bodies)
    return compress(content) if sha256_hex(content) == sealed.sha256 else None


def _facts(sealed: SealedObject) -> dict[str, str]:
    return {
        "content-sha256": sealed.sha256,
        "records": str(sealed.record_count),
        "first-sequence": str(sealed.first_sequence),
        "last-sequence": str(sealed.last_sequence),
    }


async def _all(tries: Iterable[Coroutine[Any, Any, Attempt]]) -> list[Attempt]:
    """Return what became of every try. What one raises is raised once all have ended: none goes on unseen."""
    ended = await asyncio.gather(*tries, return_exceptions=True)
    attempts = []
    for attempt in ended:
        if isinstance(attempt, BaseException):
            raise attempt
        attempts.append(attempt)
    return attempts


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Return whether `event` was set within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
