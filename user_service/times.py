"""Times of tables, which are milliseconds, and as times of answers."""

from datetime import UTC, datetime
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

MINUTE_MS: Final = 60_000
SECOND_MS: Final = 1_000


def to_time(milliseconds: int) -> datetime:
    """Return milliseconds since 1970-01-01 UTC as an aware time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def to_time_or_none(milliseconds: int | None) -> datetime | None:
    """Do the same for what may never have happened."""
    return None if milliseconds is None else to_time(milliseconds)


def written(milliseconds: int) -> str:
    """Return the minute that has come by then, as mails write it, e.g. `2026-03-01 14:05 UTC`."""
    return to_time(milliseconds + MINUTE_MS - 1).strftime("%Y-%m-%d %H:%M UTC")
