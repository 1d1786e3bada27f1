"""Writes one mail and tries once to get it to everybody who still has to have it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from alert_service.alerts.schemas import MailState
from alert_service.notifications import metrics, repository
from alert_service.notifications.directory import RecipientDirectory
from alert_service.notifications.message import build_message
from alert_service.notifications.outcomes import (
    NOBODY_KNOWN,
    AfterAttempt,
    Attempt,
    after,
    with_nobody_to_ask,
)
from alert_service.notifications.repository import Mail
from alert_service.notifications.smtp import MailServer
from alert_service.settings import AlertSettings
from common.clock import epoch_ms
from common.contracts.alerts import AlertRequest
from common.writer import DatabaseWriter

MAX_LOGGED_IDS = 64
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try came to; `attempt` is None when the mail server was not asked."""

    result: AfterAttempt
    attempt: Attempt | None = None


@dataclass(frozen=True)
class Postman:
    """Looks up who gets a mail, writes it, hands it over, and says what became of it."""

    writer: DatabaseWriter
    directory: RecipientDirectory
    server: MailServer
    settings: AlertSettings

    async def try_to_send(self, mail: Mail) -> Tried:
        """Try once; whatever goes wrong is a part of the result."""
        try:
            return await self._try(mail)
        except Exception as error:  # noqa: BLE001 - the boundary: one odd mail must not stop the others
            _log.exception("mail.failed", mail_id=mail.mail_id)
            return Tried(AfterAttempt(MailState.PENDING, {}, type(error).__name__))

    async def _try(self, mail: Mail) -> Tried:
        known = await self.directory.recipients_of(mail.institution_id)
        if known is None:
            return _reported(mail, (), Tried(AfterAttempt(MailState.PENDING, {}, NOBODY_KNOWN)))
        letter = await self.writer.run(lambda c: repository.write_letter(c, mail, known.emails))
        alerts = [AlertRequest.model_validate_json(body) for body in letter.alerts]
        asked = letter.addressees.to
        if not asked:
            result = with_nobody_to_ask(letter.told, somebody_is_known=bool(known.emails))
            return _reported(mail, alerts, Tried(result))
        message = build_message(
            alerts,
            institution_name=known.institution_name,
            message_id=mail.message_id,
            sender=self.settings.mail_from,
            recipients=letter.everybody,
            link=self.settings.decision_link,
            written_at=datetime.fromtimestamp(mail.created_at_ms / 1000, UTC),
        )
        attempt = await self.server.send(message, asked)
        result = after(
            attempt,
            asked,
            delivered_before=MailState.DELIVERED in letter.told.values(),
            give_up=epoch_ms() - mail.created_at_ms > self.settings.mail_give_up_h * 3_600_000,
        )
        return _reported(mail, alerts, Tried(result, attempt))


def _reported(mail: Mail, alerts: Sequence[AlertRequest], tried: Tried) -> Tried:
    """Count and log what one try came to, without any address."""
    result = tried.result
    metrics.MAILS.labels(result.state.value).inc()
    for state, _ in result.recipients.values():
        metrics.RECIPIENTS.labels(state.value).inc()
    said = sorted({reply.logged for reply in tried.attempt.replies}) if tried.attempt else [result.error]
    log = _log.error if result.state is MailState.DEAD_LETTER else _log.info
    log(
        "mail.tried",
        mail_id=mail.mail_id,
        institution_id=mail.institution_id,
        state=result.state.value,
        attempts=mail.attempts,
        alerts=len(alerts),
        request_ids=sorted({alert.request_id for alert in alerts})[:MAX_LOGGED_IDS],
        recipients=len(result.recipients),
        errors=said,
    )
    return tried
