"""Identifiers: a prefix that says what it names, then 128 bits that sort by time of making."""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # ten bits at a time
_SHIFTS = tuple(range(120, -1, -10))


def new_id(prefix: str) -> str:
    """Return e.g. `dec_01jd3v...`: 48 bits of milliseconds and 80 random bits, as a ULID lays them out."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return f"{prefix}_" + "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])
