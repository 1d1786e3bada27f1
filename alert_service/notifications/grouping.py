"""How many mails are made of the alerts that wait. Pure."""

from dataclasses import dataclass

MAX_UNTOLD_MAILS = 4
"""Mails of one institution that nobody has got yet. While so many wait, further alerts wait to share the next ones,
so that the end of an outage brings a few full mails instead of thousands with one alert each."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The alerts of one institution that are in no mail yet; times are milliseconds since 1970."""

    institution_id: str
    count: int
    oldest_ms: int
    untold_mails: int


def mails_to_make(waiting: Waiting, *, now_ms: int, collect_ms: int, max_alerts: int) -> int:
    """Return how many mails are made now: full ones at once, one that is not full when its first alert waited."""
    room = max(0, MAX_UNTOLD_MAILS - waiting.untold_mails)
    full, rest = divmod(waiting.count, max_alerts)
    ripe = ripe_in_ms(waiting, now_ms=now_ms, collect_ms=collect_ms) == 0
    return min(room, full + (1 if rest and ripe else 0))


def ripe_in_ms(waiting: Waiting, *, now_ms: int, collect_ms: int) -> int:
    """Return how long alerts are still collected; a time in the future means that the clock was set back."""
    if waiting.oldest_ms > now_ms:
        return 0
    return max(0, waiting.oldest_ms + collect_ms - now_ms)
