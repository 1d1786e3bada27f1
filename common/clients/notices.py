"""Asks alert_service for mails to certain people."""

from collections.abc import Sequence

from common.auth.service_tokens import TokenSource
from common.contracts.notices import Notice, NoticeBatch
from common.delivery import Courier, Delivery, deliver

TARGET = "notices"
PATH = "/v1/internal/notices"


class NoticeClient:
    """Hands notices over; what becomes of it is returned, never raised."""

    def __init__(self, client: Courier, tokens: TokenSource) -> None:
        self._client = client
        self._tokens = tokens

    async def hand_over(self, notices: Sequence[Notice]) -> Delivery:
        """Hand over `notices` together, at most `MAX_NOTICES`; none at all are delivered at once."""
        if not notices:
            return Delivery(TARGET, delivered=True)
        body = NoticeBatch(notices=tuple(notices)).model_dump_json().encode()
        return await deliver(
            self._client,
            PATH,
            target=TARGET,
            body=body,
            headers=self._tokens.header,
            refused=self._tokens.was_refused,
        )
