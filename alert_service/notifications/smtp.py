"""Hands a mail to the mail server; what became of it is returned, never raised."""

from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage

import aiosmtplib
from aiosmtplib import (
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from alert_service.notifications.outcomes import Attempt, Reply
from alert_service.settings import AlertSettings, SmtpSecurity


@dataclass(frozen=True)
class MailServer:
    """The mail server, as the settings describe it."""

    settings: AlertSettings

    async def send(self, message: EmailMessage, recipients: Sequence[str]) -> Attempt:
        """Send `message` to `recipients` in one connection of its own."""
        try:
            return Attempt(refused=await self._send(message, recipients))
        except SMTPRecipientsRefused as error:
            return Attempt(
                refused={each.recipient: Reply(each.code, each.message) for each in error.recipients}
            )
        except SMTPDataError as error:
            return Attempt(refused={}, failure=Reply(error.code, error.message))
        except SMTPResponseException as error:
            # greeting, STARTTLS, login or sender were refused: that is our set-up, and mending it must be enough
            return Attempt(refused={}, failure=Reply(None, f"{error.code} {error.message}"))
        except (SMTPException, OSError, ValueError) as error:
            return Attempt(refused={}, failure=Reply(None, f"{type(error).__name__}: {error}"))

    async def _send(self, message: EmailMessage, recipients: Sequence[str]) -> dict[str, Reply]:
        settings = self.settings
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            timeout=settings.smtp_timeout_s,
            # said outright: left to itself the library goes on in plain text where STARTTLS is not offered
            use_tls=settings.smtp_security is SmtpSecurity.TLS,
            start_tls=settings.smtp_security is SmtpSecurity.STARTTLS,
        )
        async with client:
            if settings.smtp_username:
                await client.login(settings.smtp_username, settings.smtp_password.get_secret_value())
            refused, _ = await client.send_message(message, recipients=list(recipients))
        return {address: Reply(answer.code, answer.message) for address, answer in refused.items()}
