"""The spool: where a record is durable from the moment it is acknowledged until its object is in the archive."""

import asyncio
from collections.abc import Sequence

import structlog

from common.batches import Batches
from common.contracts.audit_records import AuditRecord, RecordsAccepted
from common.errors import OverloadedError
from common.failpoints import failpoint
from common.logging import add_facts
from log_service.archive.metrics import RECORDS, SPOOL_FILL, SPOOLED, SPOOLED_BYTES, TAMPERING
from log_service.archive.records import (
    InvalidRecordError,
    RecordConflictError,
    SpoolRecord,
    checked,
    refuse_others_records,
)
from log_service.archive.repository import Amount
from log_service.archive.spool_store import SpoolStore

MAX_BATCHES_A_COMMIT = 32  # of at most 512 records each
MAX_BATCHES_WAITING = 128
FULL_RETRY_S = 5
FILL_ALARM = 0.8
MAX_REQUEST_IDS = 50
_log = structlog.get_logger()


class AuditSpool:
    """Accepts batches of records; requests that arrive together share one commit.

    `most` may be passed by what is being written at that moment. `arrived` is set whenever `wake_after`
    records have come since it was last cleared by `take_arrived`.
    """

    def __init__(self, store: SpoolStore, *, most: Amount, spooled: Amount, wake_after: int) -> None:
        self._store = store
        self._most = most
        self._spooled = spooled
        self._wake_after = wake_after
        self._arrived_records = 0
        self.arrived = asyncio.Event()
        self._alarmed = False
        self._batches: Batches[list[SpoolRecord], RecordsAccepted] = Batches(
            self._keep,
            name="audit_records",
            max_batch=MAX_BATCHES_A_COMMIT,
            max_waiting=MAX_BATCHES_WAITING,
        )
        self._changed(0, 0)

    @property
    def spooled_records(self) -> int:
        """How many records wait with their body."""
        return self._spooled.records

    async def accept(self, records: Sequence[AuditRecord], *, writer: str) -> RecordsAccepted:
        """Return once all of `records`, which the service `writer` handed over, are durable.

        Raises `NotItsRecordError`, `InvalidRecordError`, `RecordConflictError` (then none of them was kept) and
        `OverloadedError`.
        """
        refuse_others_records(records, writer=writer)
        request_ids = list(dict.fromkeys(record.request_id[:64] for record in records))
        add_facts(records=len(records), request_ids=request_ids[:MAX_REQUEST_IDS])
        if self._is_full_for(records):
            RECORDS.labels("refused").inc(len(records))
            raise OverloadedError("The spool is full.", retry_after_s=FULL_RETRY_S)
        try:
            accepted = await self._batches.submit(checked(records))
        except InvalidRecordError as error:
            RECORDS.labels("invalid").inc(len(records))
            _log.error("audit.record_invalid", reason=error.detail)
            raise
        except RecordConflictError as error:
            RECORDS.labels("conflict").inc(len(records))
            TAMPERING.labels("record").inc()
            _log.error("audit.record_conflict", record_id=error.record_id)
            raise
        add_facts(accepted=accepted.accepted, repeated=accepted.repeated)
        return accepted

    def take_arrived(self) -> None:
        """Begin to count arrivals anew."""
        self._arrived_records = 0
        self.arrived.clear()

    def left(self, dropped: Amount) -> None:
        """Note that records are in the archive and their bodies gone from here."""
        self._changed(-dropped.records, -dropped.bytes)

    async def drain(self) -> None:
        """Wait until every batch that was taken in is durable."""
        await self._batches.drain()

    async def _keep(self, batches: Sequence[list[SpoolRecord]]) -> Sequence[RecordsAccepted | Exception]:
        kept = await self._store.accept(batches)
        failpoint("spool.after_commit")
        results = kept.results
        accepted = sum([result.accepted for result in results if isinstance(result, RecordsAccepted)])
        repeated = sum([result.repeated for result in results if isinstance(result, RecordsAccepted)])
        RECORDS.labels("accepted").inc(accepted)
        RECORDS.labels("repeated").inc(repeated)
        self._changed(kept.added.records, kept.added.bytes)
        self._arrived_records += accepted
        if self._arrived_records >= self._wake_after:
            self.arrived.set()
        return results

    def _is_full_for(self, records: Sequence[AuditRecord]) -> bool:
        # characters are at most as many as bytes; what is beyond ASCII is counted when it is in
        size = sum([len(record.body) for record in records])
        return (
            self._spooled.records + len(records) > self._most.records
            or self._spooled.bytes + size > self._most.bytes
        )

    def _changed(self, records: int, size: int) -> None:
        self._spooled = Amount(self._spooled.records + records, self._spooled.bytes + size)
        fill = max(self._spooled.records / self._most.records, self._spooled.bytes / self._most.bytes)
        SPOOLED.set(self._spooled.records)
        SPOOLED_BYTES.set(self._spooled.bytes)
        SPOOL_FILL.set(fill)
        if (fill >= FILL_ALARM) is not self._alarmed:
            self._alarmed = not self._alarmed
            log = _log.error if self._alarmed else _log.info
            log(
                "spool.filling" if self._alarmed else "spool.relieved",
                records=self._spooled.records,
                bytes=self._spooled.bytes,
            )
