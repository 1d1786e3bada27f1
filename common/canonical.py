"""Canonical bytes: what is hashed, saved, archived and later proved.

UTF-8 JSON, object keys sorted by code point, no white space, floats in their shortest round-trip form,
absent values left out by the caller. The bytes are made once and kept; nobody makes them again to check them.
"""

import hashlib
from typing import Any

import orjson


def canonical_bytes(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the canonical JSON of `value` (dicts, lists, strings, numbers, booleans, UTC times, None)."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
