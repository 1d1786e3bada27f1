"""Asks alert_service for mails to certain people."""

from collections.abc import Sequence

from common.clients.teller import Teller
from common.contracts.notices import Notice, NoticeBatch
from common.delivery import Delivery

TARGET = "notices"
PATH = "/v1/internal/notices"


class NoticeClient(Teller):
    """Asks for mails."""

    async def hand_over(self, notices: Sequence[Notice]) -> Delivery:
        """Hand over `notices` together, at most `MAX_NOTICES`."""
        return await self._tell(TARGET, PATH, notices, _body)


def _body(notices: Sequence[Notice]) -> bytes:
    return NoticeBatch(notices=tuple(notices)).model_dump_json().encode()
