"""Tells what is still in the outbox: after an outage, after a restart, for as long as it takes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.clients.alerts import AlertClient
from ai_service.scoring import repository
from ai_service.scoring.record import alert_request, parse_record, saved_audit_record
from ai_service.scoring.tables import outbox
from common.clients.logs import TARGET as AUDIT
from common.clients.logs import LogClient
from common.delivery import Delivery
from common.outbox import Outbox
from common.relay import InlineSender, Relay, Send
from common.writer import DatabaseWriter

BUILT_AT_ONCE = 32
MessageT = TypeVar("MessageT")


def relays(
    writer: DatabaseWriter,
    *,
    alerts: AlertClient,
    logs: LogClient,
    reader: DatabaseWriter | None = None,
    inline: Mapping[str, InlineSender] | None = None,
) -> tuple[Relay, Relay]:
    """Make the two relays; each builds its messages from the saved records.

    `inline` names who tells each target beside them. Their look-ups run on `reader`, where there is one.
    """
    reader, inline = reader or writer, inline or {}
    senders = {
        ALERT: _sender(reader, ALERT, lambda body: alert_request(parse_record(body)), alerts.raise_alerts),
        AUDIT: _sender(reader, AUDIT, saved_audit_record, logs.archive),
    }
    alert_relay, audit_relay = (
        Relay(writer, Outbox(outbox), target=target, send=send, inline=inline.get(target), reader=reader)
        for target, send in senders.items()
    )
    return alert_relay, audit_relay


def _sender(
    reader: DatabaseWriter,
    target: str,
    build: Callable[[bytes], MessageT],
    tell: Callable[[Sequence[MessageT]], Awaitable[Delivery]],
) -> Send:
    async def send(decision_ids: Sequence[str]) -> Delivery:
        records = await reader.run(lambda connection: repository.records_of(connection, decision_ids))
        if len(records) != len(decision_ids):
            return Delivery(target, delivered=False, error="a decision is not there", refused=True)
        try:
            messages = [message async for message in _built(records, build)]
        except (ValueError, KeyError, TypeError) as error:  # a record of an older or newer version
            return Delivery(
                target, delivered=False, error=f"no message: {type(error).__name__}", refused=True
            )
        return await tell(messages)

    return send


async def _built(records: Sequence[bytes], build: Callable[[bytes], MessageT]) -> AsyncIterator[MessageT]:
    """Yield the messages, letting the requests of payers in between: a backlog is not worth making them wait."""
    for position, body in enumerate(records):
        if position % BUILT_AT_ONCE == 0:
            await asyncio.sleep(0)
        yield build(body)
