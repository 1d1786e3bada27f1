"""Makes mails out of alerts, and sends them and those of notices until each is delivered or refused for good."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from alert_service.alerts.schemas import MailState
from alert_service.notices.repository import forget_secret
from alert_service.notifications import metrics, repository
from alert_service.notifications.grouping import ripe_in_ms
from alert_service.notifications.mail import Mail
from alert_service.notifications.outcomes import AfterAttempt
from alert_service.notifications.pace import Pace
from alert_service.notifications.postman import Postman, Tried
from alert_service.settings import AlertSettings
from common.background import end
from common.clock import epoch_ms
from common.failpoints import failpoint
from common.outbox import backoff_ms
from common.writer import DatabaseWriter

TICK_S = 0.25
GATHER_S = 0.05
LEASE_MS = 10_000
RENEW_S = 3.0
DATABASE_RETRY_S = 1.0
_log = structlog.get_logger()


class _Sending(NamedTuple):
    institution_id: str
    task: asyncio.Task[None]


@dataclass
class Mailer:
    """Sends what is due, several mails at once; of them at most a quarter to the same institution.

    A mail is leased while it is being sent, and the lease is renewed; when the process dies, the lease ends and
    whoever looks next sends the mail again, under the same Message-ID.
    """

    writer: DatabaseWriter
    postman: Postman
    settings: AlertSettings
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _sending: dict[str, _Sending] = field(default_factory=dict)
    _pace: Pace = field(init=False)
    _is_lane_free: bool = False
    _claimed: tuple[str, ...] = ()  # leased by the database's thread, not yet heard of here

    def __post_init__(self) -> None:
        self._pace = Pace(lanes=self.settings.mail_concurrency)
        metrics.REACHABLE.set(1)  # until it shows that it is not

    async def keep_sending(self) -> None:
        """Send what is due, until cancelled; mails under way go on (see `finish`)."""
        while True:
            self.news.clear()
            self._is_lane_free = False
            rest_s = await self._start_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self.news.wait()
            if not self._is_lane_free:
                await asyncio.sleep(GATHER_S)  # a look costs as much for one alert as for many

    async def keep_leases(self) -> None:
        """Renew the leases of mails under way and measure what waits, until cancelled."""
        while True:
            await self._renew(tuple(self._sending))
            await self.writer.run(_measure)
            await asyncio.sleep(RENEW_S)

    async def finish(self, *, timeout_s: float) -> None:
        """Let mails under way come to their end; give back those that take longer than `timeout_s`."""
        tasks = [sending.task for sending in self._sending.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        left = tuple(self._sending)
        await end(tasks)
        # behind a claim whose caller was cancelled: jobs run one after another
        await self.writer.run(lambda c: repository.give_back(c, (*left, *self._claimed)))

    async def _renew(self, mail_ids: Sequence[str]) -> None:
        now_ms = epoch_ms()
        await self.writer.run(
            lambda c: repository.renew(c, mail_ids, now_ms=now_ms, until_ms=now_ms + LEASE_MS)
        )

    async def _start_due(self) -> float:
        """Make mails, start sending those that may go, and return for how many seconds nothing new is ripe."""
        free = self._pace.lanes(time.monotonic()) - len(self._sending)
        busy = Counter(sending.institution_id for sending in self._sending.values())
        try:
            due, ripe_in = await self.writer.run(lambda c: self._due(c, free=free, busy=busy))
        except Exception:
            self._claimed = ()  # what was not committed is not leased
            raise
        self._claimed = ()
        for mail in due:
            task = asyncio.create_task(self._send(mail))
            self._sending[mail.mail_id] = _Sending(mail.institution_id, task)
            task.add_done_callback(lambda _done, key=mail.mail_id: self._ended(key))  # type: ignore[misc]
        return min(TICK_S, ripe_in / 1000)

    def _due(self, connection: Connection, *, free: int, busy: Counter[str]) -> tuple[Sequence[Mail], int]:
        settings = self.settings
        now_ms, collect_ms = epoch_ms(), round(settings.mail_collect_s * 1000)
        waiting = repository.waiting_alerts(connection)
        repository.make_mails(
            connection,
            waiting,
            now_ms=now_ms,
            collect_ms=collect_ms,
            max_alerts=settings.mail_max_alerts,
            domain=settings.mail_domain,
        )
        failpoint("mails.before_commit")
        ripe = [ripe_in_ms(each, now_ms=now_ms, collect_ms=collect_ms) for each in waiting]
        ripe_in = min((each for each in ripe if each > 0), default=round(TICK_S * 1000))
        if free <= 0:
            return (), ripe_in
        per_institution = max(1, settings.mail_concurrency // 4)
        mails = repository.claim(
            connection,
            now_ms=now_ms,
            lease_ms=LEASE_MS,
            limit=free,
            busy=busy,
            per_institution=per_institution,
        )
        self._claimed = tuple(mail.mail_id for mail in mails)
        return mails, ripe_in

    def _ended(self, mail_id: str) -> None:
        del self._sending[mail_id]
        self._is_lane_free = True
        self.news.set()

    async def _send(self, mail: Mail) -> None:
        failpoint("mail.before_send")
        tried = await self.postman.try_to_send(mail)
        failpoint("mail.after_send")
        wake = self._note(tried)
        retry_ms = backoff_ms(mail.attempts)
        while True:  # the mail is out; that must not be forgotten because the database is away for a moment
            try:
                await self.writer.run(lambda c: _finish(c, mail, tried.result, retry_ms=retry_ms, wake=wake))
            except SQLAlchemyError as error:
                _log.error("mail.not_noted", mail_id=mail.mail_id, error=type(error).__name__)
                await asyncio.sleep(DATABASE_RETRY_S)
            else:
                failpoint("mail.after_mark")
                return

    def _note(self, tried: Tried) -> bool:
        """Tell the pace how it went; return whether all mails that wait should be tried now."""
        attempt = tried.attempt
        if attempt is None:
            return False
        metrics.REACHABLE.set(attempt.reached)
        if not attempt.reached:
            pause_s = backoff_ms(self._pace.unreachable + 1) / 1000
            self._pace.not_reached(time.monotonic(), pause_s=pause_s)
        elif tried.result.somebody_got_it:
            return self._pace.taken()
        else:
            self._pace.not_taken()
        return False


def _finish(connection: Connection, mail: Mail, result: AfterAttempt, *, retry_ms: int, wake: bool) -> None:
    now_ms = epoch_ms()
    repository.finish_attempt(connection, mail, result, now_ms=now_ms, retry_ms=retry_ms)
    if result.state is not MailState.PENDING:
        forget_secret(connection, mail)
    if wake:
        repository.wake(connection, now_ms=now_ms)


def _measure(connection: Connection) -> None:
    metrics.WAITING.set(repository.count_pending(connection))
    metrics.UNASSIGNED.set(sum(each.count for each in repository.waiting_alerts(connection)))
    oldest_ms = repository.oldest_untold_ms(connection)
    metrics.OLDEST_SECONDS.set(0 if oldest_ms is None else (epoch_ms() - oldest_ms) / 1000)
