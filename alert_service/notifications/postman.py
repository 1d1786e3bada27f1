"""Writes one mail and tries once to get it to everybody who still has to have it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage

import structlog

from alert_service.alerts.schemas import MailState
from alert_service.notices.repository import find_notice
from alert_service.notifications import metrics
from alert_service.notifications.account_requests import AccountPlaces
from alert_service.notifications.directory import RecipientDirectory
from alert_service.notifications.envelope import Envelope
from alert_service.notifications.letters_repository import Letter, told_of, write_letter
from alert_service.notifications.mail import Mail
from alert_service.notifications.message import build_message
from alert_service.notifications.notice_message import build_notice
from alert_service.notifications.outcomes import (
    NOBODY_KNOWN,
    AfterAttempt,
    Attempt,
    after,
    expired,
    with_nobody_to_ask,
)
from alert_service.notifications.smtp import MailServer
from alert_service.settings import AlertSettings
from common.clock import epoch_ms, utc_now
from common.contracts.alerts import AlertRequest
from common.contracts.institutions import Recipients
from common.contracts.notices import Notice
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
            return await (self._try_alerts(mail) if mail.notice_id is None else self._try_notice(mail))
        except Exception as error:  # noqa: BLE001 - the boundary: one odd mail must not stop the others
            _log.exception("mail.failed", mail_id=mail.mail_id)
            return Tried(AfterAttempt(MailState.PENDING, {}, type(error).__name__))

    async def _try_alerts(self, mail: Mail) -> Tried:
        known = await self.directory.recipients_of(mail.institution_id)
        if known is None:
            return _reported(mail, Tried(AfterAttempt(MailState.PENDING, {}, NOBODY_KNOWN)), alerts=0)
        letter = await self.writer.run(lambda c: write_letter(c, mail, known.emails))
        alerts = [AlertRequest.model_validate_json(body) for body in letter.alerts]
        tried = await self._handed_over(
            mail,
            letter,
            lambda envelope: build_message(
                alerts,
                envelope,
                institution_name=known.institution_name,
                link=self.settings.decision_link,
            ),
            somebody_is_known=bool(known.emails),
        )
        request_ids = sorted({alert.request_id for alert in alerts})[:MAX_LOGGED_IDS]
        return _reported(mail, tried, alerts=len(alerts), request_ids=request_ids)

    async def _try_notice(self, mail: Mail) -> Tried:
        notice = await self.writer.run(lambda c: find_notice(c, mail))
        about = {"notice_id": notice.notice_id, "kind": notice.kind.value}
        if notice.expires_at is not None and notice.expires_at <= utc_now():
            told = await self.writer.run(lambda c: told_of(c, mail))
            return _reported(mail, Tried(expired(told)), **about)
        known = await self.directory.recipients_of(mail.institution_id)
        recipients = _recipients(notice, known)
        if recipients is None:
            return _reported(mail, Tried(AfterAttempt(MailState.PENDING, {}, NOBODY_KNOWN)), **about)
        letter = await self.writer.run(lambda c: write_letter(c, mail, recipients))
        tried = await self._handed_over(
            mail,
            letter,
            lambda envelope: build_notice(
                notice,
                envelope,
                institution_name="" if known is None else known.institution_name,
                places=AccountPlaces(self.settings.account_link, self.settings.account_api_url),
            ),
            somebody_is_known=bool(recipients),
        )
        return _reported(mail, tried, **about)

    async def _handed_over(
        self,
        mail: Mail,
        letter: Letter,
        write: Callable[[Envelope], EmailMessage],
        *,
        somebody_is_known: bool,
    ) -> Tried:
        """Hand the mail that `write` makes to the mail server, if anybody still has to get it."""
        asked = letter.addressees.to
        if not asked:
            return Tried(with_nobody_to_ask(letter.told, somebody_is_known=somebody_is_known))
        envelope = Envelope(
            message_id=mail.message_id,
            sender=self.settings.mail_from,
            recipients=letter.everybody,
            written_at=datetime.fromtimestamp(mail.created_at_ms / 1000, UTC),
        )
        attempt = await self.server.send(write(envelope), asked)
        result = after(
            attempt,
            asked,
            delivered_before=MailState.DELIVERED in letter.told.values(),
            give_up=epoch_ms() - mail.created_at_ms > self.settings.mail_give_up_h * 3_600_000,
        )
        return Tried(result, attempt)


def _recipients(notice: Notice, known: Recipients | None) -> Sequence[str] | None:
    """Return who is to get a notice: those it names, or else the admins; None while they are not known."""
    if notice.recipients:
        return notice.recipients
    return None if known is None else known.emails


def _reported(mail: Mail, tried: Tried, **about: object) -> Tried:
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
        recipients=len(result.recipients),
        errors=said,
        **about,
    )
    return tried
