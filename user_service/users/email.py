"""E-mail addresses as we take them (pure)."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, EmailStr

_BARE = re.compile(r"[^\s<>]+\Z")
MAX_CHARACTERS = 254


def _bare_address(value: object) -> object:
    """Refuse what else EmailStr takes, e.g. `Name <address>`, or takes for another address."""
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS or not _BARE.fullmatch(value):
        message = (
            f"this is one e-mail address of at most {MAX_CHARACTERS} characters, without a name or spaces"
        )
        raise ValueError(message)
    if any(unicodedata.normalize("NFKC", each) != each for each in value):
        message = "this address holds a character that only looks like others: write it with those"
        raise ValueError(message)
    return value


def _one_form(address: str) -> str:
    return unicodedata.normalize("NFC", address)


EmailAddress = Annotated[EmailStr, BeforeValidator(_bare_address), AfterValidator(_one_form)]
"""One e-mail address; its domain is in lower case, and it has one form for characters that look the same (NFC).

Characters that Unicode has for compatibility alone are refused: KELVIN SIGN would otherwise become a K, and its address
that of somebody else.
"""


def email_key(address: str) -> str:
    """Return what decides whether two addresses are the same account: in any case, and in one form."""
    return unicodedata.normalize("NFC", address.lower())  # small letters compose where capitals do not
