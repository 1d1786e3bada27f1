"""The misbehaving mail server against a real client."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from local_stack.mailbox.store import MailStore
from tests.faults.smtp import LINE, MailFaults, MisbehavingMailServer, misbehaving_mail_server

ANN, BOB = "ann@assay.example", "bob@assay.example"


@pytest.fixture
def store(tmp_path: Path) -> MailStore:
    return MailStore(tmp_path)


@pytest.fixture
async def server(store: MailStore) -> AsyncIterator[MisbehavingMailServer]:
    async with misbehaving_mail_server(store) as running:
        yield running


def mail() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "An alert"
    message["From"] = "alerts@assay.example"
    message["Message-ID"] = "<mail-1@assay.example>"
    message.set_content("alr_1")
    return message


async def send(server: MisbehavingMailServer, *to: str, timeout_s: float = 5) -> dict[str, int]:
    """Send a mail and return the codes of refused addresses."""
    refused, _ = await aiosmtplib.send(
        mail(),
        recipients=list(to),
        hostname="127.0.0.1",
        port=server.port,
        start_tls=False,
        timeout=timeout_s,
    )
    return {address: answer.code for address, answer in refused.items()}


class TestRecipients:
    async def test_takes_what_it_is_not_told_to_refuse(
        self, server: MisbehavingMailServer, store: MailStore
    ) -> None:
        assert await send(server, ANN, BOB) == {}

        (mail_id,) = store.ids()
        kept = store.read(mail_id)
        assert kept is not None
        assert kept.header("X-Envelope-To") == f"{ANN}, {BOB}"
        assert kept.header("Message-ID") == "<mail-1@assay.example>"

    @pytest.mark.parametrize("code", [451, 452, 550])
    async def test_refuses_chosen_recipients(
        self, server: MisbehavingMailServer, store: MailStore, code: int
    ) -> None:
        server.set(MailFaults(recipients=((BOB, f"{code} no"),)))

        assert await send(server, ANN, BOB) == {BOB: code}

        (mail_id,) = store.ids()
        kept = store.read(mail_id)
        assert kept is not None
        assert kept.header("X-Envelope-To") == ANN

    async def test_ends_the_service_with_421(self, server: MisbehavingMailServer, store: MailStore) -> None:
        server.set(MailFaults(recipients=((BOB, "421 closing down"),)))

        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await send(server, ANN, BOB)

        assert store.ids() == []

    async def test_can_refuse_everybody_at_first(
        self, server: MisbehavingMailServer, store: MailStore
    ) -> None:
        server.set(MailFaults(recipients=(("*", "451 later"),), refusals=1))

        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await send(server, ANN)
        assert await send(server, ANN) == {}

        assert len(store.ids()) == 1


class TestData:
    async def test_refuses_the_message(self, server: MisbehavingMailServer, store: MailStore) -> None:
        server.set(MailFaults(data="452 no room"))

        with pytest.raises(aiosmtplib.SMTPDataError):
            await send(server, ANN)

        assert store.ids() == []

    async def test_keeps_a_message_and_breaks_off_before_it_says_so(
        self, server: MisbehavingMailServer, store: MailStore
    ) -> None:
        server.set(MailFaults(drop_after_data=1))

        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await send(server, ANN)
        await send(server, ANN)

        assert len(store.ids()) == 2


class TestTheBanner:
    async def test_comes_late(self, server: MisbehavingMailServer) -> None:
        server.set(MailFaults(banner_delay_s=3600))

        with pytest.raises(aiosmtplib.SMTPConnectTimeoutError):
            await send(server, ANN, timeout_s=0.2)

    async def test_is_far_too_long(self, server: MisbehavingMailServer, store: MailStore) -> None:
        server.set(MailFaults(banner_bytes=10_000 * len(LINE)))

        with pytest.raises(aiosmtplib.SMTPException):
            await send(server, ANN)

        assert store.ids() == []


class TestStartTls:
    async def test_is_not_offered(self, server: MisbehavingMailServer) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port, start_tls=False) as client:
            await client.ehlo()

            assert not client.supports_extension("starttls")
