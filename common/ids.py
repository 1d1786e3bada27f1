"""Identifiers: a prefix that says what it names, then 128 bits that sort by time of making."""

import os
import time
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case
_TIME_CHARACTERS = 10
_RANDOM_CHARACTERS = 16
_SYMBOLS = frozenset(_ALPHABET)
_SYMBOL_OF_BYTE = (_ALPHABET * 8).encode()  # five random bits of each byte choose one


def new_id(prefix: str) -> str:
    """Return e.g. `dec_01jd3v...`: 48 bits of milliseconds and 80 random bits, as a ULID lays them out."""
    random = os.urandom(_RANDOM_CHARACTERS).translate(_SYMBOL_OF_BYTE).decode()
    return f"{prefix}_{_time_part(time.time_ns() // 1_000_000)}{random}"


def made_at_ms(identifier: str) -> int | None:
    """Return when `new_id` made an identifier, in milliseconds since 1970; None when it did not make it."""
    body = identifier.rpartition("_")[2]
    if len(body) != _TIME_CHARACTERS + _RANDOM_CHARACTERS or not _SYMBOLS.issuperset(body):
        return None
    made = 0
    for symbol in body[:_TIME_CHARACTERS]:
        made = made << 5 | _ALPHABET.index(symbol)
    return made


@lru_cache(maxsize=2)
def _time_part(milliseconds: int) -> str:
    return "".join(_ALPHABET[milliseconds >> 5 * place & 31] for place in reversed(range(_TIME_CHARACTERS)))
