"""How much of a month's decisions is used up, and of what its institution is warned (pure)."""

from collections.abc import Collection
from datetime import UTC, datetime
from math import ceil

THRESHOLDS = (50, 80, 90, 100)
"""Per cent of the quota at which an institution is warned, once a month each, and again when the quota has changed."""


def month_of(at: datetime) -> str:
    """Return the calendar month of `at` (aware, UTC), e.g. `2026-11`."""
    return f"{at.year:04d}-{at.month:02d}"


def month_end(month: str) -> datetime:
    """Return the first moment after `month`, in UTC."""
    year, number = int(month[:4]), int(month[5:])
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def seconds_left(now: datetime) -> int:
    """Return whole seconds until the month of `now` is over, at least 1."""
    return max(1, ceil((month_end(month_of(now)) - now).total_seconds()))


def percent(decisions: int, quota: int) -> float:
    """Return how much of `quota` is used, to one decimal; rounded down, so that 100 means all of it."""
    return decisions * 1000 // quota / 10


def due_warnings(decisions: int, quota: int, *, given: Collection[int]) -> tuple[int, ...]:
    """Return the thresholds that are reached and of which no warning was `given` yet for this quota."""
    return tuple(each for each in THRESHOLDS if decisions * 100 >= each * quota and each not in given)
