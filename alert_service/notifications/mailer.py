"""Makes mails out of alerts and sends them, until each is delivered or refused for good."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage

import structlog
from prometheus_client import Counter, Gauge

from alert_service.alerts.schemas import MailState
from alert_service.notifications import repository
from alert_service.notifications.directory import RecipientDirectory
from alert_service.notifications.message import build_message
from alert_service.notifications.outcomes import AfterAttempt, Attempt, Reply, after
from alert_service.notifications.repository import Mail
from alert_service.notifications.smtp import MailServer
from alert_service.settings import AlertSettings
from common.clock import epoch_ms
from common.contracts.alerts import AlertRequest
from common.outbox import backoff_ms
from common.writer import DatabaseWriter

TICK_S = 0.2
ATTEMPT_TIMEOUTS = 2.5  # a whole attempt may take this many times the wait for one answer
LEASE_TIMEOUTS = 3.0  # longer than an attempt; after a crash the mail is tried again when it ends
MAILS = Counter("assay_mails_total", "Mails by what became of a try to send them.", ["state"])
WAITING = Gauge("assay_mails_waiting", "Mails, and alerts without a mail yet, that wait to be delivered.")
_log = structlog.get_logger()


@dataclass
class Mailer:
    """Sends what is due; one mail of an institution at a time, several institutions at once."""

    writer: DatabaseWriter
    directory: RecipientDirectory
    server: MailServer
    settings: AlertSettings
    _sending: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _failed_last: bool = False

    async def collect(self) -> None:
        """Put waiting alerts into mails, for ever."""
        settings = self.settings
        while True:
            await self.writer.run(
                lambda c: repository.make_mails(
                    c,
                    now_ms=epoch_ms(),
                    collect_ms=round(settings.mail_collect_s * 1000),
                    max_alerts=settings.mail_max_alerts,
                    domain=_domain(settings.mail_from),
                )
            )
            WAITING.set(await self.writer.run(repository.count_pending))
            await asyncio.sleep(TICK_S)

    async def send(self) -> None:
        """Send due mails, for ever; when cancelled, mails under way are left to their lease."""
        try:
            while True:
                free = self.settings.mail_concurrency - len(self._sending)
                started = await self._start(free) if free else 0
                if started == 0:
                    await self._wait()
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _start(self, free: int) -> int:
        busy = tuple(self._sending)
        lease_ms = round(self.settings.smtp_timeout_s * 1000 * LEASE_TIMEOUTS)
        due = await self.writer.run(
            lambda c: repository.claim(c, now_ms=epoch_ms(), lease_ms=lease_ms, limit=free, busy=busy)
        )
        for mail in due:
            task = asyncio.create_task(self._send_one(mail))
            self._sending[mail.institution_id] = task
            task.add_done_callback(lambda _task, key=mail.institution_id: self._sending.pop(key, None))  # type: ignore[misc]
        return len(due)

    async def _wait(self) -> None:
        """Wait for a mail to be finished, or a moment."""
        if self._sending:
            await asyncio.wait(self._sending.values(), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(TICK_S)

    async def _send_one(self, mail: Mail) -> None:
        try:
            result = await self._attempt(mail)
        except Exception as error:  # noqa: BLE001 - the boundary: one odd mail must not stop the others
            _log.exception("mail.failed", mail_id=mail.mail_id)
            failure = Reply(None, type(error).__name__)
            result = after(
                Attempt({}, failure), mail.recipients or (), delivered_before=mail.delivered_before
            )
        await self._finish(mail, result)

    async def _attempt(self, mail: Mail) -> AfterAttempt:
        known = await self.directory.recipients_of(mail.institution_id)
        addresses = mail.recipients if mail.recipients is not None else tuple(known.emails if known else ())
        if known is None or not addresses:
            return AfterAttempt(MailState.PENDING, {}, "nobody is known to send this to")
        if mail.recipients is None:
            await self.writer.run(lambda c: repository.set_recipients(c, mail.mail_id, addresses))
        bodies = await self.writer.run(lambda c: repository.alerts_of(c, mail.mail_id))
        message = build_message(
            [AlertRequest.model_validate_json(body) for body in bodies],
            institution_name=known.institution_name,
            message_id=mail.message_id,
            sender=self.settings.mail_from,
            recipients=addresses,
            link=self.settings.decision_link,
            written_at=datetime.fromtimestamp(mail.created_at_ms / 1000, UTC),
        )
        attempt = await self._hand_over(message, addresses)
        return after(attempt, addresses, delivered_before=mail.delivered_before)

    async def _hand_over(self, message: EmailMessage, addresses: Sequence[str]) -> Attempt:
        try:
            async with asyncio.timeout(self.settings.smtp_timeout_s * ATTEMPT_TIMEOUTS):
                return await self.server.send(message, addresses)
        except TimeoutError:
            return Attempt(refused={}, failure=Reply(None, "the mail server took too long"))

    async def _finish(self, mail: Mail, result: AfterAttempt) -> None:
        retry_ms = backoff_ms(mail.attempts) if result.state is MailState.PENDING else 0
        await self.writer.run(
            lambda c: repository.finish_attempt(c, mail, result, now_ms=epoch_ms(), retry_ms=retry_ms)
        )
        recovered = self._failed_last and result.error is None
        self._failed_last = result.error is not None
        if recovered:
            await self.writer.run(lambda c: repository.wake(c, now_ms=epoch_ms()))
        MAILS.labels(result.state.value).inc()
        log = _log.error if result.state is MailState.DEAD_LETTER else _log.info
        log(
            "mail.tried",
            mail_id=mail.mail_id,
            state=result.state.value,
            attempts=mail.attempts,
            error=result.error,
        )


def _domain(sender: str) -> str:
    return sender.rpartition("@")[2].rstrip(">").strip() or "localhost"
