"""Hands the warnings that are in the outbox to alert_service, for as long as it takes."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ai_service.usage import repository
from ai_service.usage.repository import QuotaWarning
from common.clients.notices import TARGET, NoticeClient
from common.contracts.notices import MAX_NOTICES, Notice, NoticeKind
from common.delivery import Delivery
from common.outbox import Outbox
from common.relay import Relay
from common.writer import DatabaseWriter


def warning_relay(
    writer: DatabaseWriter, outbox: Outbox, *, notices: NoticeClient, reader: DatabaseWriter
) -> Relay:
    """Make the relay of warnings; nobody waits for them, so it is the only one that tells."""

    async def send(warning_ids: Sequence[str]) -> Delivery:
        found = await reader.run(lambda connection: repository.find_warnings(connection, warning_ids))
        if len(found) != len(warning_ids):
            return Delivery(TARGET, delivered=False, error="a warning is not there", refused=True)
        return await notices.hand_over([_notice(warning) for warning in found])

    return Relay(writer, outbox, target=TARGET, send=send, batch=MAX_NOTICES, reader=reader)


def _notice(warning: QuotaWarning) -> Notice:
    """Return the mail to the institution's admins; receivers know a repeated one by its id."""
    return Notice(
        notice_id=warning.warning_id,
        kind=NoticeKind.QUOTA,
        institution_id=warning.institution_id,
        recipients=(),
        facts={
            "percent": str(warning.threshold),
            "decisions": str(warning.decisions),
            "quota": str(warning.quota),
            "month": warning.month,
            "policy": warning.over_quota,
        },
        created_at=datetime.fromtimestamp(warning.created_at_ms / 1000, tz=UTC),
    )
