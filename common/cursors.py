"""Cursors of lists: where a page ends, in a form that callers hand back and do not read."""

import base64
import binascii
import re

from common.errors import PlatformError

_NUMBER = re.compile(rb"[1-9][0-9]{0,18}\Z")


class CursorInvalidError(PlatformError):
    """The cursor was not given out by this service."""

    status_code = 422
    type = "cursor-invalid"
    title = "This cursor was not given out here; start again without one"


def to_cursor(number: int) -> str:
    """Return the cursor of the row numbered `number`."""
    return base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


def from_cursor(cursor: str | None) -> int | None:
    """Return the number that a cursor holds, None for none; raises `CursorInvalidError`."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (UnicodeEncodeError, binascii.Error):
        raise CursorInvalidError from None
    if not _NUMBER.fullmatch(text):
        raise CursorInvalidError
    number = int(text)
    if number > 2**63 - 1:
        raise CursorInvalidError
    return number
