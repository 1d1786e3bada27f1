"""Times of tables as times of answers."""

from datetime import UTC, datetime


def to_time(milliseconds: int) -> datetime:
    """Return milliseconds since 1970-01-01 UTC as an aware time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def to_time_or_none(milliseconds: int | None) -> datetime | None:
    """Do the same for what may never have happened."""
    return None if milliseconds is None else to_time(milliseconds)
