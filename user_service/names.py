"""What people, institutions and keys are called."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from common.contracts.fields import Text

_MARKS = ("://", "www.", "@")
_DOTTED = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_DOMAINS = frozenset({"com", "net", "org", "edu", "gov", "info", "biz", "xyz", "site", "online"})
"""Ends of addresses in any case; others count in lower case alone: `St.Gallen` is a place."""


def _not_blank(text: str) -> str:
    if not text.strip():
        message = "this is not blank"
        raise ValueError(message)
    return text


def _no_address(text: str) -> str:
    if reads_as_address(text):
        message = (
            "a name holds no address of the web or of mail: no '@', '://' or 'www.', and a space after a dot"
        )
        raise ValueError(message)
    return text


def reads_as_address(text: str) -> bool:
    """Whether some of `text` would lead elsewhere: mail programs make links of what looks like an address."""
    read = unicodedata.normalize("NFKC", text).replace("\u3002", ".")
    folded = read.casefold()
    if any(mark in folded for mark in _MARKS) or _IPV4.search(read):
        return True
    return any(_is_domain(found.split(".")) for found in _DOTTED.findall(read))


def _is_domain(labels: list[str]) -> bool:
    """Whether words with dots and no spaces between them are an address, and not `J.P.Morgan`, `St.Gallen` or `J.van`."""
    return any(
        label.casefold() in _DOMAINS
        or (len(label) > 1 and label.islower() and not all(map(_is_initial, labels[:place])))
        for place, label in enumerate(labels)
        if place > 0
    )


def _is_initial(label: str) -> bool:
    return len(label) == 1 and label.isupper()


Name = Annotated[Text, AfterValidator(_not_blank), AfterValidator(_no_address)]
"""What a person or an institution is called; strangers read it in mails, so it leads nowhere."""

KeyName = Annotated[Text, AfterValidator(_not_blank)]
"""What an API key is called; it may well be the address of a shop."""
