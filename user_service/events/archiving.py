"""Tells log_service about every identity event, in order, until it has it."""

from collections.abc import Sequence
from typing import Any

import orjson

from common.canonical import sha256_hex
from common.clients.logs import LogClient
from common.contracts.audit_records import RecordKind
from common.delivery import Delivery
from common.relay import Relay
from common.writer import DatabaseWriter
from user_service.events import repository
from user_service.outbox import AUDIT, outbox


def audit_relay(writer: DatabaseWriter, logs: LogClient) -> Relay:
    """Make the relay that hands identity events to log_service. The events themselves stay here for good."""

    async def send(event_ids: Sequence[str]) -> Delivery:
        bodies = await writer.run(lambda c: repository.bodies_of(c, event_ids))
        if len(bodies) != len(event_ids):
            return Delivery(AUDIT, delivered=False, error="an event is not there", refused=True)
        return await logs.archive([audit_record(body) for body in bodies])

    return Relay(writer, outbox, target=AUDIT, send=send)


def audit_record(body: bytes) -> dict[str, Any]:
    """Return what log_service is told, as `AuditRecord` has it: the canonical bytes and what it files them by."""
    content = orjson.loads(body)
    institution, event = content["institution"], content["event"]
    return {
        "record_id": event["event_id"],
        "kind": RecordKind.IDENTITY,
        "institution_id": institution["institution_id"],
        "institution_mode": institution["mode"],
        "sequence": event["event_sequence"],
        "created_at": event["created_at"],
        "request_id": event["request_id"],
        "sha256": sha256_hex(body),
        "body": body.decode(),
    }
