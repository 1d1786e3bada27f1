"""The routes of the archive: services hand records over, people read those of their institution."""

import re
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator

from common.auth.bearer import require_scope, require_service
from common.auth.principal import Principal
from common.contracts.audit_records import AuditBatch, RecordsAccepted
from common.contracts.fields import Identifier
from common.contracts.tokens import Scope
from common.errors import NotFoundError, OverloadedError
from common.internal_door import InternalCall
from common.paging import MAX_PAGE, Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute, model_route
from log_service.archive.records import InvalidRecordError, NotItsRecordError, RecordConflictError
from log_service.archive.schemas import ArchivedDay
from log_service.archive.service import ArchiveDamagedError, ArchiveReader
from log_service.archive.spool import AuditSpool

_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)


async def _spool(request: Request) -> AuditSpool:
    spool: AuditSpool = request.state.spool
    return spool


async def _archive(request: Request) -> ArchiveReader:
    archive: ArchiveReader = request.state.archive
    return archive


def _iso_day(value: object) -> date:
    if not isinstance(value, str) or not _DAY.match(value):
        raise ValueError("a day is written as 2026-11-02")
    return date.fromisoformat(value)


SpoolDep = Annotated[AuditSpool, Depends(_spool)]
ArchiveDep = Annotated[ArchiveReader, Depends(_archive)]
Auditor = Annotated[Principal, Depends(require_scope(Scope.AUDIT_READ))]
Writer = Annotated[Principal, Depends(require_service(Scope.AUDIT_WRITE))]
Day = Annotated[
    date,
    BeforeValidator(_iso_day, json_schema_input_type=str),
    Path(description="A day in UTC, as 2026-11-02", examples=["2026-11-02"]),
]

# beside `unavailable`: the archive is away
_READING = (ArchiveDamagedError, OverloadedError)

internal = APIRouter(prefix="/v1/internal", route_class=model_route(AuditBatch), tags=["internal"])
public = APIRouter(prefix="/v1/audit", route_class=StrictRoute, tags=["audit archive"])


@internal.post(
    "/audit-records",
    status_code=202,
    responses=refusals(NotItsRecordError, RecordConflictError, InvalidRecordError, OverloadedError),
)
async def accept_audit_records(batch: AuditBatch, caller: Writer, spool: SpoolDep) -> RecordsAccepted:
    """Take records into the spool; once this answers 202 they are durable and will be archived exactly once.

    Decisions are taken from ai_service alone, identity records from user_service alone.
    Records that were accepted before, by `record_id` and `sha256`, are counted as repeated and change nothing.
    """
    return await spool.accept(batch.records, writer=caller.subject)


CALLS = {
    "/v1/internal/audit-records": InternalCall(
        AuditBatch,
        Scope.AUDIT_WRITE,
        lambda state, batch, caller: state["spool"].accept(batch.records, writer=caller.subject),
    )
}


@public.get(
    "/records/{record_id}",
    response_class=Response,
    responses={
        200: {
            "description": "The record's canonical JSON, byte for byte as it was accepted and archived",
            "content": {"application/json": {"schema": {"type": "object"}}},
            "headers": {
                "X-Record-SHA256": {
                    "description": "SHA-256 of these bytes, in hexadecimal digits",
                    "schema": {"type": "string"},
                },
                "X-Record-State": {
                    "description": "`spooled` (durable, not archived yet) or `archived`",
                    "schema": {"type": "string"},
                },
                "X-Object-Key": {
                    "description": "Key of the archive object; absent while the record is spooled",
                    "schema": {"type": "string"},
                },
            },
        },
        **refusals(NotFoundError, *_READING),
    },
)
async def read_record(
    record_id: Annotated[Identifier, Path()], caller: Auditor, archive: ArchiveDep
) -> Response:
    """Return one record of your institution exactly as it was accepted; its id is a decision's `decision_id`, or
    an identity record's `event_id`.

    An archived record is read from the archive and checked against its digest.
    """
    record = await archive.record(caller.tenant, record_id)
    headers = {"X-Record-SHA256": record.sha256, "X-Record-State": record.state.value}
    if record.object_key is not None:
        headers["X-Object-Key"] = record.object_key
    return Response(record.body, media_type="application/json", headers=headers)


@public.get("/days/{day}")
async def read_day(
    day: Day,
    caller: Auditor,
    archive: ArchiveDep,
    limit: Limit = MAX_PAGE,
    cursor: Cursor = None,
) -> ArchivedDay:
    """List the archive objects of one UTC day of your institution, with totals of all its records.

    Totals are of the whole day, whatever page is asked for.
    """
    return await archive.day(caller.tenant, day, cursor=cursor, limit=limit)


@public.get(
    "/days/{day}/records",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One canonical record a line, by kind and in order of sequence",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        },
        **refusals(*_READING),
    },
)
async def read_records_of_day(day: Day, caller: Auditor, archive: ArchiveDep) -> StreamingResponse:
    """Stream every record of one UTC day of your institution, archived or still spooled.

    Should the archive fail half way, the connection is closed before the end of the body.
    """
    lines = await archive.stream_day(caller.tenant, day)
    return StreamingResponse(lines, media_type="application/x-ndjson")
