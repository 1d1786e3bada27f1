"""Mails that come by SMTP are on disk before the sender hears so."""

from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from local_stack.mailbox.sink import receiving
from local_stack.mailbox.store import MailStore
from tests.waiting import PATIENCE_S


def make_mail() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "alerts@assay.example"
    message["To"] = "admin@bank.example"
    message["Subject"] = "One payment needs attention"
    message.set_content("alr_" + "0" * 26 + "\n.a line that begins with a dot\n")
    return message


class TestReceiving:
    async def test_a_mail_is_kept_as_it_was_sent_with_its_envelope(self, tmp_path: Path) -> None:
        store = MailStore(tmp_path)
        async with receiving(store, host="127.0.0.1", port=0) as port:
            await aiosmtplib.send(
                make_mail(),
                recipients=["admin@bank.example", "second@bank.example"],
                hostname="127.0.0.1",
                port=port,
                timeout=PATIENCE_S,
            )

        (mail_id,) = store.ids()
        mail = store.read(mail_id)
        assert mail is not None
        assert mail.header("X-Envelope-To") == "admin@bank.example, second@bank.example"
        assert mail.header("Subject") == "One payment needs attention"
        assert "\n.a line that begins with a dot" in (mail.text("plain") or "").replace("\r\n", "\n")

    async def test_the_sender_hears_when_a_mail_cannot_be_kept(self, tmp_path: Path) -> None:
        store = MailStore(tmp_path / "mails")
        (tmp_path / "mails").rmdir()

        async with receiving(store, host="127.0.0.1", port=0) as port:
            with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                await aiosmtplib.send(make_mail(), hostname="127.0.0.1", port=port, timeout=PATIENCE_S)

        assert refused.value.code == 451
