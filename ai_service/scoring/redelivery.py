"""Tells what is still in the outbox: after an outage, after a restart, for as long as it takes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.clients.alerts import AlertClient
from ai_service.clients.logs import TARGET as AUDIT
from ai_service.clients.logs import LogClient
from ai_service.scoring import repository
from ai_service.scoring.record import alert_request, audit_record, parse_record
from ai_service.scoring.tables import outbox
from common.http import Delivery
from common.outbox import Outbox, Relay
from common.writer import DatabaseWriter

MessageT = TypeVar("MessageT")


def relays(writer: DatabaseWriter, *, alerts: AlertClient, logs: LogClient) -> tuple[Relay, Relay]:
    """Make the two relays; each builds its messages from the saved records."""
    return (
        _relay(writer, ALERT, lambda body: alert_request(parse_record(body)), alerts.raise_alerts),
        _relay(writer, AUDIT, lambda body: audit_record(parse_record(body), body), logs.archive),
    )


def _relay(
    writer: DatabaseWriter,
    target: str,
    build: Callable[[bytes], MessageT],
    tell: Callable[[Sequence[MessageT]], Awaitable[Delivery]],
) -> Relay:
    async def send(decision_ids: Sequence[str]) -> Delivery:
        records = await writer.run(lambda connection: repository.records_of(connection, decision_ids))
        if len(records) != len(decision_ids):
            return Delivery(target, delivered=False, error="a decision is not there", refused=True)
        try:
            messages = [build(body) for body in records]
        except (ValueError, KeyError, TypeError) as error:  # a record of an older or newer version
            return Delivery(
                target, delivered=False, error=f"no message: {type(error).__name__}", refused=True
            )
        return await tell(messages)

    return Relay(writer, Outbox(outbox), target=target, send=send)
