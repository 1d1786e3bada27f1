"""Hands a mail to the mail server; what became of it is returned, never raised."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage

import aiosmtplib
from aiosmtplib import (
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponse,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from alert_service.notifications.outcomes import Attempt, Reply
from alert_service.settings import AlertSettings, SmtpSecurity
from common.texts import one_line

LOGIN_EXCHANGES = (
    8  # answers until the server has let us in: greeting, EHLO, STARTTLS, its handshake, EHLO, login
)
MAIL_EXCHANGES = 5  # answers that one mail waits for, beside one for each recipient
QUIT_S = 1.0
LOWEST_CODE = 200
NEEDS_SMTPUTF8 = Reply(553, "the mail server takes no addresses with letters beyond ASCII")


@dataclass(frozen=True)
class MailServer:
    """The mail server, as the settings describe it."""

    settings: AlertSettings
    trusted: ssl.SSLContext

    async def send(self, message: EmailMessage, recipients: Sequence[str]) -> Attempt:
        """Send `message` to `recipients` in one connection of its own."""
        client = self._client()
        timeout_s = self.settings.smtp_timeout_s
        try:
            async with asyncio.timeout(timeout_s * LOGIN_EXCHANGES):
                await client.connect()
        except SMTPResponseException as error:
            # greeting, STARTTLS or login were refused: that is our set-up, and mending it must be enough
            return _not_reached(_reply(error).said)
        except (SMTPException, OSError, ValueError) as error:
            return _not_reached(_words(error))
        try:
            async with asyncio.timeout(timeout_s * (MAIL_EXCHANGES + len(recipients))):
                attempt = await _sent(client, message, recipients)
        except TimeoutError:
            client.close()
            return _kept("the mail server took too long")
        except asyncio.CancelledError:
            client.close()
            raise
        await _leave(client)
        return attempt

    def _client(self) -> aiosmtplib.SMTP:
        settings = self.settings
        return aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            local_hostname=settings.smtp_local_hostname or None,
            username=settings.smtp_username or None,
            password=settings.smtp_password.get_secret_value() or None,
            timeout=settings.smtp_timeout_s,
            # said outright: left to itself the library goes on in plain text where STARTTLS is not offered
            use_tls=settings.smtp_security is SmtpSecurity.TLS,
            start_tls=settings.smtp_security is SmtpSecurity.STARTTLS,
            tls_context=self.trusted,
        )


def open_mail_server(settings: AlertSettings) -> MailServer:
    """Return the mail server of `settings`; its certificate is checked against the machine's or a given authority."""
    return MailServer(settings, ssl.create_default_context(cafile=settings.smtp_ca_file or None))


async def _sent(client: aiosmtplib.SMTP, message: EmailMessage, recipients: Sequence[str]) -> Attempt:
    """Send over an open connection. What goes wrong here is about this mail, not about the server."""
    refused: dict[str, Reply] = {}
    try:
        if not await _takes_unicode(client, recipients):
            refused = {address: NEEDS_SMTPUTF8 for address in recipients if not address.isascii()}
        if len(refused) < len(recipients):
            asked = [address for address in recipients if address not in refused]
            answers, _ = await client.send_message(message, recipients=asked)
            refused.update((each, _reply(answer)) for each, answer in answers.items())
    except SMTPRecipientsRefused as error:
        refused.update((each.recipient, _reply(each)) for each in error.recipients)
    except SMTPDataError as error:
        return Attempt(refused={}, failure=_reply(error))
    except SMTPResponseException as error:
        # the sender was refused: that is our set-up again
        return _kept(_reply(error).said)
    except (SMTPException, OSError, ValueError) as error:
        return _kept(_words(error))
    return Attempt(refused=refused)


async def _takes_unicode(client: aiosmtplib.SMTP, recipients: Sequence[str]) -> bool:
    if all(address.isascii() for address in recipients):
        return True
    if client.is_ehlo_or_helo_needed:
        await client.ehlo()
    return client.supports_extension("smtputf8")


async def _leave(client: aiosmtplib.SMTP) -> None:
    """Close the connection; whatever goes wrong now changes nothing about the mail, and it is not worth waiting for."""
    with suppress(SMTPException, OSError):
        await client.quit(timeout=QUIT_S)
    client.close()


def _reply(answer: SMTPResponseException | SMTPResponse) -> Reply:
    if answer.code < LOWEST_CODE:  # the library's own, for lines it cannot read
        return Reply(None, "what answers is not a mail server")
    return Reply(answer.code, one_line(answer.message))


def _kept(words: str) -> Attempt:
    return Attempt(refused={}, failure=Reply(None, words))


def _not_reached(words: str) -> Attempt:
    return Attempt(refused={}, failure=Reply(None, words), reached=False)


def _words(error: SMTPException | OSError | ValueError) -> str:
    """Say in our own words what went wrong; the library's name hosts and ports."""
    match error:
        case ssl.SSLError():
            return f"the connection could not be secured ({error.reason or type(error).__name__})"
        case SMTPTimeoutError() | TimeoutError():
            return "the mail server took too long"
        case SMTPConnectError():
            return "the mail server does not answer"
        case SMTPServerDisconnected() | OSError():
            return "the connection to the mail server broke"
        case SMTPException():
            return one_line(error.message)
        case _:
            return type(error).__name__
