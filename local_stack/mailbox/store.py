"""Keeps delivered mails, one file each, named so that they sort by the time they came."""

import os
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from common.ids import new_id

SUFFIX = ".eml"
_MAIL_ID = re.compile(r"mail_[0-9a-z]{26}\Z")


@dataclass(frozen=True)
class Mail:
    """One delivered mail."""

    mail_id: str
    message: EmailMessage

    def header(self, name: str) -> str:
        """Return a header, or nothing."""
        return str(self.message.get(name, ""))

    @property
    def recipients(self) -> list[str]:
        """Return whom it was delivered to."""
        return self.header("X-Envelope-To").split(", ")

    def text(self, kind: str) -> str | None:
        """Return the part for reading that is `plain` or `html`."""
        part = self.message.get_body((kind,))
        return None if part is None else str(part.get_content()).replace("\r\n", "\n")


class MailStore:
    """The mails in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, content: bytes) -> str:
        """Keep a mail and return its id; when this returns, the mail survives a power cut."""
        mail_id = new_id("mail")
        unfinished = self._folder / f".{mail_id}"
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._folder / f"{mail_id}{SUFFIX}")
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return mail_id

    def ids(self) -> list[str]:
        """Return the ids of all mails, the newest first."""
        return sorted((path.stem for path in self._folder.glob(f"mail_*{SUFFIX}")), reverse=True)

    def content(self, mail_id: str) -> bytes | None:
        """Return a mail as it was delivered, or None when there is no such mail."""
        path = self._folder / f"{mail_id}{SUFFIX}"
        if not _MAIL_ID.fullmatch(mail_id) or not path.is_file():
            return None
        return path.read_bytes()

    def read(self, mail_id: str) -> Mail | None:
        """Return one mail, or None when there is no such mail."""
        content = self.content(mail_id)
        return None if content is None else Mail(mail_id, message_from_bytes(content, policy=default))

    def newest(self, *, to: str, subject: str) -> Mail | None:
        """Return the newest mail that was delivered to the address and has those words in its subject."""
        for mail_id in self.ids():
            mail = self.read(mail_id)
            if mail and to in mail.recipients and subject.lower() in mail.header("Subject").lower():
                return mail
        return None
