"""What every mail of ours has in common. Pure: the same words and envelope give the same message."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

_NOT_IN_BOUNDARY = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """From whom and to whom a mail is; its Message-ID and Date do not change with retries."""

    message_id: str
    sender: str
    recipients: Sequence[str]
    written_at: datetime


def compose(envelope: Envelope, *, subject: str, template: str, words: Mapping[str, Any]) -> EmailMessage:
    """Return the mail that says `words` in text and HTML, each by the file of `template` for it."""
    message = EmailMessage(policy=SMTP.clone(max_line_length=200))
    message["Subject"] = subject
    message["From"] = envelope.sender
    message["To"] = _written_recipients(envelope.recipients)
    message["Date"] = format_datetime(envelope.written_at)
    message["Message-ID"] = envelope.message_id
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_templates().get_template(f"{template}.txt").render(words))
    message.add_alternative(_templates().get_template(f"{template}.html").render(words), subtype="html")
    message.set_boundary(
        "=_" + _NOT_IN_BOUNDARY.sub("", envelope.message_id)
    )  # a chosen one, not a new one for each try
    return message


def _written_recipients(recipients: Sequence[str]) -> str:
    """Return the To header; addresses beyond ASCII get the mail, but only some servers take them in a header."""
    return ", ".join(each for each in recipients if each.isascii()) or "undisclosed-recipients:;"


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("alert_service.notifications"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
