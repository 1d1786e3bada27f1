"""Takes mails by SMTP. A mail is on disk before the sender hears 250."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiosmtpd.smtp import SMTP, Envelope, Session

from local_stack.mailbox.store import MailStore

MAX_BYTES = 10 * 1024 * 1024


class MailSink:
    """What aiosmtpd calls for each mail; sender and recipients of the envelope become headers."""

    def __init__(self, store: MailStore) -> None:
        self._store = store

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep the mail, then answer."""
        content = envelope.original_content or b""
        trace = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {', '.join(envelope.rcpt_tos)}\r\n"
        try:
            mail_id = await asyncio.to_thread(self._store.save, trace.encode("utf-8", "replace") + content)
        except OSError:
            return "451 The mail could not be kept; try again"
        return f"250 Kept as {mail_id}"


@asynccontextmanager
async def receiving(store: MailStore, *, host: str, port: int) -> AsyncIterator[int]:
    """Take mails while the block runs; yields the port, which is a free one when `port` is 0."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(
            MailSink(store),
            hostname="mailbox.localhost",
            data_size_limit=MAX_BYTES,
            enable_SMTPUTF8=True,
            loop=loop,
        ),
        host,
        port,
    )
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
