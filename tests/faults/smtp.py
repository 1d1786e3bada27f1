"""A mail server that misbehaves on demand and keeps what it took, as the local stack's mailbox does."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from local_stack.mailbox.store import MailStore

LOOPBACK = "127.0.0.1"
EVERYBODY = "*"
MAX_BYTES = 10 * 1024 * 1024
LINE = b"220-" + b"x" * 500 + b"\r\n"


@dataclass(frozen=True)
class MailFaults:
    """How the server answers. Replies begin with a code: 421, 451, 452, 550; empty: all is well.

    `recipients` maps an address (or `*`) to the reply its RCPT gets, the first `refusals` times (0: always).
    """

    recipients: tuple[tuple[str, str], ...] = ()
    refusals: int = 0
    data: str = ""
    drop_after_data: int = (
        0  # so many mails are taken and the connection ends before anything is said about them
    )
    banner_delay_s: float = 0.0
    banner_bytes: int = 0  # greeted with so many bytes of continuation lines first

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "MailFaults":
        """Return what `dataclasses.asdict` gave, after it went through JSON."""
        return cls(**{**fields, "recipients": tuple((each, reply) for each, reply in fields["recipients"])})

    def to_json(self) -> dict[str, Any]:
        """Return this as plain JSON."""
        return asdict(self)


class MisbehavingMailServer:
    """What aiosmtpd calls; `faults` can be set at any time and holds from the next command on."""

    def __init__(self, store: MailStore) -> None:
        self.faults = MailFaults()
        self.port = 0
        self.open: set[_Session] = set()
        self._store = store
        self._refused: Counter[str] = Counter()
        self._dropped = 0

    def set(self, faults: MailFaults) -> None:
        """Misbehave like this from now on."""
        self.faults = faults
        self._refused.clear()
        self._dropped = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take or refuse one address."""
        replies = dict(self.faults.recipients)
        reply = replies.get(address, replies.get(EVERYBODY, ""))
        if reply and (not self.faults.refusals or self._refused[address] < self.faults.refusals):
            self._refused[address] += 1
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the mail, then answer; or keep it and say nothing."""
        if self.faults.data:
            return self.faults.data
        trace = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {', '.join(envelope.rcpt_tos)}\r\n"
        content = trace.encode("utf-8", "replace") + (envelope.original_content or b"")
        mail_id = await asyncio.to_thread(self._store.save, content)
        if self._dropped < self.faults.drop_after_data:
            self._dropped += 1
            if isinstance(server.transport, asyncio.Transport):
                server.transport.abort()
        return f"250 Kept as {mail_id}"


class _Session(SMTP):
    """Greets as the faults say, and is known while it is open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.event_handler.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.event_handler.open.discard(self)

    async def end(self) -> None:
        """Break the connection off."""
        handler = self._handler_coroutine
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        if handler is not None:
            handler.cancel()
            await asyncio.gather(handler, return_exceptions=True)

    async def _handle_client(self) -> None:
        faults: MailFaults = self.event_handler.faults
        if faults.banner_delay_s:
            await asyncio.sleep(faults.banner_delay_s)
        for _ in range(0, faults.banner_bytes, len(LINE)):
            self._writer.write(LINE)
            await self._writer.drain()
        await super()._handle_client()


@asynccontextmanager
async def misbehaving_mail_server(
    store: MailStore, *, port: int = 0, certificate: ssl.SSLContext | None = None
) -> AsyncIterator[MisbehavingMailServer]:
    """Take mails in this event loop while the block runs; without a `certificate` no STARTTLS is offered."""
    server = MisbehavingMailServer(store)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: _Session(
            server,
            hostname="mail.localhost",
            data_size_limit=MAX_BYTES,
            enable_SMTPUTF8=True,
            tls_context=certificate,
            loop=loop,
        ),
        LOOPBACK,
        port,
    )
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for session in list(server.open):
            await session.end()
