"""A real SMTP server for tests, with switches for what goes wrong."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from functools import cached_property
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class Received:
    """A message that was accepted."""

    recipients: tuple[str, ...]
    message: EmailMessage

    @cached_property
    def text(self) -> str:
        """Return the plain text part."""
        part = self.message.get_body(["plain"])
        assert part is not None
        return str(part.get_content())


@dataclass
class MailServer:
    """What the server got, and how it answers: `rcpt_replies` per address, `data_replies` one after another.

    A recipient in `held` gets no answer until that event is set; who waits for one is listed in `waiting`.
    With `holds_after_data`, a message is taken, and nothing is said about it until that event is set.
    """

    port: int = 0
    received: list[Received] = field(default_factory=list)
    rcpt_replies: dict[str, str] = field(default_factory=dict)
    data_replies: list[str] = field(default_factory=list)
    sender_reply: str = "250 OK"
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    holds_after_data: asyncio.Event | None = None
    greeted: int = 0
    logins: list[tuple[str, str]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Count who comes."""
        self.greeted += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse the sender."""
        if self.sender_reply.startswith("2"):
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return self.sender_reply

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take or refuse one address."""
        if address in self.held:
            async with self.arrived:
                self.waiting.append(address)
                self.arrived.notify_all()
            await self.held[address].wait()
        if address in self.rcpt_replies:
            return self.rcpt_replies[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take or refuse a message; "drop" takes it and cuts the connection before saying so."""
        reply = self.data_replies.pop(0) if self.data_replies else "250 OK"
        if reply in {"250 OK", "drop"}:
            assert isinstance(envelope.content, bytes)
            parsed = message_from_bytes(envelope.content, policy=default)
            assert isinstance(parsed, EmailMessage)
            async with self.arrived:
                self.received.append(Received(tuple(envelope.rcpt_tos), parsed))
                self.arrived.notify_all()
        if self.holds_after_data is not None:
            await self.holds_after_data.wait()
        if reply == "drop" and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return reply

    async def until(self, enough: Callable[[list[Received]], Any], *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until what was received is `enough`."""
        async with asyncio.timeout(timeout_s), self.arrived:
            await self.arrived.wait_for(lambda: enough(self.received))

    def takes_login(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword
    ) -> AuthResult:
        """Note a login; every password but "wrong" is right."""
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password != b"wrong", handled=False)

    def ids(self) -> list[str]:
        """Return every alert id found in a delivered message, as often as it was told."""
        words = " ".join(received.text for received in self.received).split()
        return [word for word in words if word.startswith("alr_")]


@asynccontextmanager
async def mail_server(
    *,
    port: int = 0,
    server: MailServer | None = None,
    certificate: ssl.SSLContext | None = None,
    implicit_tls: bool = False,
    **options: Any,  # noqa: ANN401 - aiosmtpd's options
) -> AsyncIterator[MailServer]:
    """Run a mail server on the loopback for as long as the block runs.

    With a `certificate` it offers STARTTLS, or speaks TLS from the first byte.
    """
    running = server or MailServer()
    listener = await asyncio.get_running_loop().create_server(
        lambda: SMTP(running, tls_context=None if implicit_tls else certificate, **options),
        "127.0.0.1",
        port,
        ssl=certificate if implicit_tls else None,
    )
    running.port = listener.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        listener.close()
