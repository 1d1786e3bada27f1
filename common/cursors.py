"""Cursors of lists: where a page ends, in a form that callers hand back and do not read."""

import base64
import binascii
import re

from common.errors import PlatformError

_NUMBER = re.compile(rb"[1-9][0-9]{0,18}\Z")
_ID = re.compile(rb"[a-z]{3}_[0-9a-z]{26}\Z")


class CursorInvalidError(PlatformError):
    """The cursor was not given out by this service."""

    status_code = 422
    type = "cursor-invalid"
    title = "This cursor was not given out here; start again without one"


def to_cursor(number: int) -> str:
    """Return the cursor of the row numbered `number`."""
    return _encoded(str(number))


def to_id_cursor(row_id: str) -> str:
    """Return the cursor of the row with this id (`common.ids`), in lists that are in the order of their ids."""
    return _encoded(row_id)


def from_cursor(cursor: str | None) -> int | None:
    """Return the number that a cursor holds, None for none; raises `CursorInvalidError`."""
    if cursor is None:
        return None
    text = _decoded(cursor)
    if not _NUMBER.fullmatch(text):
        raise CursorInvalidError
    number = int(text)
    if number > 2**63 - 1:
        raise CursorInvalidError
    return number


def from_id_cursor(cursor: str | None) -> str | None:
    """Return the id that a cursor holds, None for none; raises `CursorInvalidError`."""
    if cursor is None:
        return None
    text = _decoded(cursor)
    if not _ID.fullmatch(text):
        raise CursorInvalidError
    return text.decode()


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (UnicodeEncodeError, binascii.Error):
        raise CursorInvalidError from None
