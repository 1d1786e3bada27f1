"""Hands every notice to alert_service until it has it; the text of a token is made only now."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from common.clients.notices import NoticeClient
from common.contracts.notices import MAX_NOTICES, Notice
from common.delivery import Delivery
from common.outbox import Outbox
from common.relay import Relay
from common.writer import DatabaseWriter
from user_service.mailed_tokens.texts import token_text
from user_service.notices import repository
from user_service.notices.repository import Waiting
from user_service.outbox import NOTICES, table


class NoticeOutbox(Outbox):
    """Takes away, with the row of a notice that was told, the notice itself."""

    def remove(self, connection: Connection, target: str, subject_ids: Collection[str]) -> None:
        """Take away what was told: alert_service keeps what is still needed of it."""
        super().remove(connection, target, subject_ids)
        repository.forget(connection, subject_ids)


def notice_relay(writer: DatabaseWriter, notices: NoticeClient, *, token_key: bytes) -> Relay:
    """Make the relay that hands notices to alert_service; a notice that was taken is forgotten here.

    `token_key` is `DerivedKeys.mailed_tokens`.
    """

    async def send(notice_ids: Sequence[str]) -> Delivery:
        waiting = await writer.run(lambda c: repository.find(c, notice_ids))
        if len(waiting) != len(notice_ids):
            return Delivery(NOTICES, delivered=False, error="a notice is not there", refused=True)
        return await notices.hand_over([_complete(each, token_key) for each in waiting])

    return Relay(writer, NoticeOutbox(table), target=NOTICES, send=send, batch=MAX_NOTICES)


def _complete(waiting: Waiting, token_key: bytes) -> Notice:
    notice = Notice.model_validate_json(waiting.body)
    if waiting.token_id is None:
        return notice
    return notice.model_copy(update={"secret": token_text(token_key, waiting.token_id)})
