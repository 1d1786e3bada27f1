"""The objects of the archive, by what log_service's copied database knows of them."""

import asyncio
import re
import zlib
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, select

from assay.errors import OperationError
from assay.reading import WHOLE
from common.canonical import sha256_hex
from common.tenancy import of_every_tenant
from log_service.archive.objects import DamagedObjectError, decompress, largest_size
from log_service.archive.s3_store import (
    ArchiveUnavailableError,
    ObjectMissingError,
    PutOutcome,
    S3Store,
    open_s3_store,
)
from log_service.archive.schemas import ObjectState
from log_service.archive.tables import numbers, objects
from log_service.settings import LogSettings

FOLDER = "archive/"
AT_ONCE = 8
MOST_BYTES = 1 << 26  # an object is sealed at 16 MB
GZIP = 31  # zlib's code for it
FOUND_AT_ONCE = 1000
ResultT = TypeVar("ResultT")
_KEY = re.compile(
    r"audit/(?P<mode>[^/]+)/(?P<institution>[^/]+)/\d{4}/\d\d/\d\d/(?P<kind>[a-z]+)-(?P<number>\d{12})\.ndjson\.gz"
)


@dataclass(frozen=True)
class StoredObject:
    """An object that is in the archive, as the database knows it."""

    object_id: int
    key: str
    record_count: int
    first_sequence: int
    last_sequence: int
    content_bytes: int
    sha256: str

    @property
    def part(self) -> str:
        """Return the name of its part in a backup: keys may be too long for one."""
        return f"{FOLDER}{self.object_id:015d}.ndjson.gz"

    @property
    def facts(self) -> Mapping[str, str]:
        """Return the metadata that log_service gives it."""
        return {
            "content-sha256": self.sha256,
            "records": str(self.record_count),
            "first-sequence": str(self.first_sequence),
            "last-sequence": str(self.last_sequence),
        }

    def holds(self, data: bytes) -> bool:
        """Tell whether `data` is what was stored."""
        try:
            content = decompress(data, expected_bytes=self.content_bytes)
        except DamagedObjectError:
            return False
        return sha256_hex(content) == self.sha256


@dataclass(frozen=True)
class NewerObject:
    """An object of the bucket that the database does not know: it was stored after the backup."""

    mode: str
    institution_id: str
    kind: str
    number: int
    key: str


def stored_objects(connection: Connection) -> Iterator[StoredObject]:
    """Yield every object that is in the archive, in the order of their ids."""
    columns = [objects.c[name] for name in StoredObject.__dataclass_fields__]
    query = select(*columns).where(objects.c.state == ObjectState.STORED.value).order_by(objects.c.object_id)
    with connection.execute(
        of_every_tenant(query, WHOLE), execution_options={"stream_results": True}
    ) as rows:
        for row in rows.yield_per(FOUND_AT_ONCE):
            yield StoredObject(*row)


class Archive:
    """The archive, for a program without an event loop of its own."""

    def __init__(self, store: S3Store, runner: asyncio.Runner) -> None:
        self._store = store
        self._runner = runner

    def fetched(self, wanted: Iterator[StoredObject]) -> Iterator[tuple[StoredObject, bytes | None]]:
        """Yield each object with its bytes, or with nothing where it is missing or not what was stored."""
        while some := list(islice(wanted, AT_ONCE)):
            yield from zip(some, self._run(self._fetch_all(some)), strict=True)

    def put(self, stored: StoredObject, data: bytes) -> bool:
        """Store an object unless it is there; returns whether what is there is it."""
        return self._run(self._put(stored, data))

    def newer_than(self, connection: Connection) -> list[NewerObject]:
        """Return the objects beyond the last number that the database gave out, for each mode and institution."""
        query = select(numbers.c.institution_mode, numbers.c.institution_id, numbers.c.last_number)
        known = {
            (mode, institution_id): last
            for mode, institution_id, last in connection.execute(of_every_tenant(query, WHOLE))
        }
        return [
            NewerObject(match["mode"], match["institution"], match["kind"], int(match["number"]), key)
            for key in self._run(self._store.keys("audit/"))
            if (match := _KEY.fullmatch(key))
            and int(match["number"]) > known.get((match["mode"], match["institution"]), 0)
        ]

    def last_sequence(self, newer: NewerObject) -> int:
        """Return the number of the last record in an object: its lines are in their order."""
        data = self._run(self._store.fetch(newer.key, max_bytes=MOST_BYTES))
        try:
            content = zlib.decompressobj(GZIP).decompress(data, MOST_BYTES)
            last = orjson.loads(content.splitlines()[-1])
            return int(
                last["decision"]["decision_sequence"] if "decision" in last else last["event_sequence"]
            )
        except (zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
            raise OperationError(f"{newer.key}, which is newer than the backup, cannot be read.") from error

    async def _fetch_all(self, some: list[StoredObject]) -> list[bytes | None]:
        return await asyncio.gather(*map(self._fetch, some))

    async def _fetch(self, stored: StoredObject) -> bytes | None:
        try:
            data = await self._store.fetch(stored.key, max_bytes=largest_size(stored.content_bytes))
        except ObjectMissingError:
            return None
        return data if stored.holds(data) else None

    async def _put(self, stored: StoredObject, data: bytes) -> bool:
        if await self._store.put(stored.key, data, facts=stored.facts) is PutOutcome.WRITTEN:
            return True
        return await self._fetch(stored) is not None

    def _run(self, call: Coroutine[Any, Any, ResultT]) -> ResultT:
        try:
            return self._runner.run(call)
        except ArchiveUnavailableError as error:
            raise OperationError(f"The archive is away: {error}") from error


@contextmanager
def open_archive(settings: LogSettings) -> Iterator[Archive]:
    """Yield the archive that log_service is told by `settings`."""
    with asyncio.Runner() as runner:
        opening = open_s3_store(settings)
        store = runner.run(opening.__aenter__())
        try:
            yield Archive(store, runner)
        finally:
            runner.run(opening.__aexit__(None, None, None))
