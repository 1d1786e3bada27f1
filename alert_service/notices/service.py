"""Takes notices durably and once each; the mailer sends them like any other mail."""

from collections.abc import Callable, Sequence

import structlog
from prometheus_client import Counter

from alert_service.notices import repository
from alert_service.notices.repository import NoticeConflictError
from alert_service.notices.senders import refuse_others_notices
from common.batches import Batches
from common.clock import epoch_ms
from common.contracts.notices import NoticeBatch, NoticesAccepted
from common.failpoints import failpoint
from common.writer import DatabaseWriter

ACCEPTED = Counter("assay_notices_accepted_total", "Notices that were new.", ["kind"])
_log = structlog.get_logger()


class NoticeInbox:
    """Accepts notices; those that arrive together share a commit. `accepted` is called when there are new ones.

    `domain` is what the Message-IDs of their mails end with.
    """

    def __init__(
        self, writer: DatabaseWriter, *, max_waiting: int, domain: str, accepted: Callable[[], None]
    ) -> None:
        self._writer = writer
        self._domain = domain
        self._accepted = accepted
        self._batches: Batches[NoticeBatch, NoticesAccepted] = Batches(
            self._accept, name="notices", lanes=1, max_batch=32, max_waiting=max_waiting
        )

    async def accept(self, batch: NoticeBatch, *, sender: str) -> NoticesAccepted:
        """Return how many notices, which the service `sender` handed over, were new, once all of them are durable.

        Raises `NotItsNoticeError`, `NoticeConflictError` (then none of them was kept) and `OverloadedError`.
        """
        refuse_others_notices(batch.notices, sender=sender)
        try:
            return await self._batches.submit(batch)
        except NoticeConflictError as error:
            _log.error("notices.conflict", notice_id=error.notice_id)
            raise

    async def drain(self) -> None:
        """Wait until everything that was handed in is durable."""
        await self._batches.drain()

    async def _accept(self, batches: Sequence[NoticeBatch]) -> Sequence[NoticesAccepted | Exception]:
        now_ms = epoch_ms()
        handed_in = [batch.notices for batch in batches]
        accepted = await self._writer.run(
            lambda c: repository.accept(c, handed_in, now_ms=now_ms, domain=self._domain)
        )
        failpoint("notices.after_commit")
        for notice in accepted.fresh:
            ACCEPTED.labels(notice.kind.value).inc()
        if accepted.fresh:
            self._accepted()
        _log.info(
            "notices.accepted",
            fresh=len(accepted.fresh),
            kinds=sorted({notice.kind.value for notice in accepted.fresh}),
        )
        return [
            new
            if isinstance(new, NoticeConflictError)
            else NoticesAccepted(accepted=len(new), repeated=len(batch.notices) - len(new))
            for batch, new in zip(batches, accepted.results, strict=True)
        ]
