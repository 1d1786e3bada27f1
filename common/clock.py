"""The one place that reads the clock; everything else takes `now`."""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this module is the clock


def epoch_ms() -> int:
    """Return milliseconds since 1970-01-01 UTC, for due times kept in a database."""
    return time.time_ns() // 1_000_000
