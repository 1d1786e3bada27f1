"""The headers that every answer carries, whichever layer gives it."""

import re
from typing import Final

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
    """Return the caller's own request id if it is one that can be repeated and logged, otherwise a new one."""
    return given if _REQUEST_ID.fullmatch(given) else new_id("req")
