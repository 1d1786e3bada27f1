"""The mails that the stack's mail server was given."""

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from local_stack.stack import Stack

TOKEN = re.compile(r"mtk_[0-9a-z]+\.[0-9A-Za-z_-]+")


def letters_to(stack: Stack, address: str) -> list[str]:
    """Return everything readable in the mails to an address."""
    found = []
    for path in stack.files.mails.glob("mail_*.eml"):
        message = message_from_bytes(path.read_bytes(), policy=default)
        if address in str(message.get("X-Envelope-To", "")):
            found.append("\n".join([*map(str, message.values()), *_parts(message)]))
    return found


def token_for(stack: Stack, address: str) -> str | None:
    """Return the token that was mailed to an address, None as long as there is none."""
    found = [match.group() for letter in letters_to(stack, address) if (match := TOKEN.search(letter))]
    return found[0] if found else None


def _parts(message: EmailMessage) -> Iterator[str]:
    for part in message.walk():
        if part.get_content_maintype() == "text":
            yield str(part.get_content())
