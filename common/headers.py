"""The headers that every answer carries, whichever layer gives it."""

import re
from typing import Final

from common.contracts.card_numbers import holds_card_number, may_hold_card_number
from common.contracts.tokens import has_form_of_secret
from common.ids import new_id

SECURITY_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
RATE_LIMITS: Final = "assay.rate_limits"
"""Where the scope of a request holds the headers that say what its caller has left."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def request_id(given: str) -> str:
    """Return the caller's own request id if it is one that can be repeated, logged and archived, otherwise a new one."""
    return given if _REQUEST_ID.fullmatch(given) and not _is_confidential(given) else new_id("req")


def _is_confidential(given: str) -> bool:
    """Say whether `given` is what belongs into no log: a card number, or a key or token that came into the wrong header."""
    is_card = may_hold_card_number(given.encode()) and holds_card_number(given)
    return is_card or has_form_of_secret(given)
