"""Who a mail still goes to. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alert_service.alerts.schemas import MailState

NOT_AN_ADDRESS = "this is not an e-mail address"
_ADDRESS = re.compile(r"[^\s\x00-\x1f\x7f<>()\[\],;:\\\"@]+@[^\s\x00-\x1f\x7f<>()\[\],;:\\\"@]+\Z")
_MAX_CHARACTERS = 254


@dataclass(frozen=True, slots=True)
class Addressees:
    """`to` still has to get the mail; `new` was not written down yet; `gone` is to be forgotten, `odd` never asked."""

    to: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    odd: tuple[str, ...]


def addressees(admins: Sequence[str], told: Mapping[str, MailState]) -> Addressees:
    """Compare who is an admin now with what became of each address that a mail went to before.

    Who is no longer an admin gets nothing more; who became one since gets the mail while it is still being sent.
    """
    current = tuple(dict.fromkeys(admins))
    pending = tuple(each for each in current if told.get(each, MailState.PENDING) is MailState.PENDING)
    return Addressees(
        to=tuple(each for each in pending if _is_address(each)),
        new=tuple(each for each in current if each not in told),
        gone=tuple(
            each for each, state in told.items() if state is MailState.PENDING and each not in current
        ),
        odd=tuple(each for each in pending if not _is_address(each)),
    )


def _is_address(text: str) -> bool:
    return len(text) <= _MAX_CHARACTERS and _ADDRESS.match(text) is not None
