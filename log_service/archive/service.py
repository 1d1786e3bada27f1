"""Gives back what was accepted: one record, one day; from the spool or from the archive, and only if it is unchanged."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date

import structlog

from common.canonical import sha256_hex
from common.contracts.institutions import Institution
from common.cursors import from_cursor, to_cursor
from common.errors import NotFoundError, OverloadedError, PlatformError
from common.paging import cut
from common.replica import Reads
from log_service.archive import queries
from log_service.archive.metrics import TAMPERING
from log_service.archive.objects import DamagedObjectError, decompress, largest_size, lines_by_digest
from log_service.archive.queries import After, FoundRecord, StoredObject
from log_service.archive.reading import DatabaseReader
from log_service.archive.s3_store import ObjectMissingError, S3Store
from log_service.archive.schemas import ArchivedDay, DayTotals, RecordState

PAGE_RECORDS = 500
OPEN_OBJECTS = 4  # kept from page to page while a day is streamed
STREAMS = 4  # days streamed at the same time by one process
STREAM_RETRY_S = 5
Lines = Mapping[str, bytes]
_log = structlog.get_logger()


class ArchiveDamagedError(PlatformError):
    """The archive does not give back what was stored in it."""

    status_code = 502
    type = "archive-damaged"
    title = "The archive does not hold what was stored; this has been reported"


@dataclass(frozen=True, slots=True)
class RecordContent:
    """One record's canonical body, and where it is."""

    body: bytes
    sha256: str
    state: RecordState
    object_key: str | None


@dataclass(frozen=True)
class ArchiveReader:
    """Reads for one institution at a time; nobody sees another's records. `slots` bounds the calls to the archive.

    A day's totals and objects come from `lists`, which may be a replica that lags behind; records never do.
    `streams` bounds the days that are streamed at the same time: each holds up to `OPEN_OBJECTS` unpacked objects.
    """

    reader: DatabaseReader
    lists: Reads
    store: S3Store
    slots: asyncio.Semaphore
    streams: asyncio.Semaphore

    async def record(self, institution: Institution, record_id: str) -> RecordContent:
        """Return one record.

        Raises `NotFoundError`, `ArchiveUnavailableError` and `ArchiveDamagedError`.
        """
        found = await self.reader.run(lambda c: queries.find_record(c, institution, record_id))
        if found is None:
            raise NotFoundError
        (body,) = await self._bodies([found], OrderedDict())
        stored = found.stored_in
        return RecordContent(
            body=body,
            sha256=found.sha256,
            state=RecordState.SPOOLED if stored is None else RecordState.ARCHIVED,
            object_key=None if stored is None else stored.key,
        )

    async def day(
        self, institution: Institution, day: date, *, cursor: str | None, limit: int
    ) -> ArchivedDay:
        """Return a day's totals, and up to `limit` of its objects; raises `CursorInvalidError`."""
        name, after = day.isoformat(), from_cursor(cursor) or 0
        found = await self.lists.run(
            lambda c: queries.objects_of_day(c, institution, name, after=after, limit=limit + 1)
        )
        total, archived = await self.lists.run(lambda c: queries.count_of_day(c, institution, name))
        items, next_cursor = cut(found, limit, lambda item: to_cursor(item.number))
        return ArchivedDay(
            institution_id=institution.institution_id,
            institution_mode=institution.mode,
            day=day,
            totals=DayTotals(records=total, archived=archived, spooled=total - archived),
            items=tuple(items),
            next_cursor=next_cursor,
        )

    async def stream_day(self, institution: Institution, day: date) -> AsyncIterator[bytes]:
        """Return all records of a day as lines in order of sequence; what fails at once is raised at once.

        What fails later breaks the stream off, so that a part is never taken for the whole. Raises `OverloadedError`
        while `STREAMS` others go on.
        """
        chunks = self._chunks(institution, day.isoformat())
        first = await anext(chunks, b"")
        return _joined(first, chunks)

    async def _chunks(self, institution: Institution, day: str) -> AsyncGenerator[bytes, None]:
        if self.streams.locked():
            raise OverloadedError("Too many days are being read.", retry_after_s=STREAM_RETRY_S)
        async with self.streams:
            async for chunk in self._pages(institution, day):
                yield chunk

    async def _pages(self, institution: Institution, day: str) -> AsyncIterator[bytes]:
        opened: OrderedDict[str, Lines] = OrderedDict()
        after = After()
        while page := await self.reader.run(
            lambda c, after=after: queries.records_of_day(  # type: ignore[misc]
                c, institution, day, after=after, limit=PAGE_RECORDS
            )
        ):
            yield b"".join([body + b"\n" for body in await self._bodies(page, opened)])
            after = After(page[-1].kind, page[-1].sequence, page[-1].record_id)

    async def _bodies(self, page: Sequence[FoundRecord], opened: OrderedDict[str, Lines]) -> list[bytes]:
        """Return the body of each record; every object they are in is opened once, however they are mixed."""
        digests: defaultdict[StoredObject, list[str]] = defaultdict(list)
        for found in page:
            if found.stored_in is not None:
                digests[found.stored_in].append(found.sha256)
        archived: dict[str, bytes] = {}
        for stored, wanted in digests.items():
            lines = await self._lines(stored, opened)
            archived.update({digest: lines[digest] for digest in wanted if digest in lines})
        return [_body(found, archived) for found in page]

    async def _lines(self, stored: StoredObject, opened: OrderedDict[str, Lines]) -> Lines:
        """Return an object's lines, from `opened` if it is there, which holds those used last."""
        if stored.key not in opened:
            opened[stored.key] = await self._open(stored)
            if len(opened) > OPEN_OBJECTS:
                opened.popitem(last=False)
        opened.move_to_end(stored.key)
        return opened[stored.key]

    async def _open(self, stored: StoredObject) -> Lines:
        try:
            async with self.slots:
                data = await self.store.fetch(stored.key, max_bytes=largest_size(stored.content_bytes))
            return await asyncio.to_thread(_verified_lines, data, stored)
        except (ObjectMissingError, DamagedObjectError) as error:
            raise _damaged(stored.key) from error


def _body(found: FoundRecord, archived: Lines) -> bytes:
    body = found.body if found.stored_in is None else archived.get(found.sha256)
    if body is None or sha256_hex(body) != found.sha256:
        raise _damaged(found.stored_in.key if found.stored_in else "spool")
    return body


def _verified_lines(data: bytes, stored: StoredObject) -> Lines:
    content = decompress(data, expected_bytes=stored.content_bytes)
    if sha256_hex(content) != stored.sha256:
        raise DamagedObjectError
    return lines_by_digest(content)


def _damaged(place: str) -> ArchiveDamagedError:
    TAMPERING.labels("content").inc()
    _log.error("archive.damaged", place=place)
    return ArchiveDamagedError()


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):  # a reader that goes away gives its place back at once
        yield first
        async for chunk in rest:
            yield chunk
