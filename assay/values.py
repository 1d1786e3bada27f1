"""A row as one line of JSON that means the same on every engine, and back. Pure.

Every value is written by its column's kind, and a value of another kind is refused: SQLite would hold anything anywhere.

    text, int, bool   as JSON has them; integers of 64 bits
    bytes             "u" and the text where they are UTF-8, "b" and base64 where they are not
    float             its hexadecimal form, e.g. "0x1.8000000000000p+1"
    json              its canonical text
    timestamp         ISO 8601 without an offset
    moment            ISO 8601 in UTC, of a column with a time zone
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Integer, LargeBinary, String, Text, cast
from sqlalchemy.sql.elements import ColumnElement

from assay.errors import ValueRefusedError

Encode = Callable[[Any], Any]
Row = Sequence[Any]


def kind_of(column: "Column[Any]") -> str:
    """Return the kind of a column's values; raises `ValueRefusedError` for a type that nobody taught us."""
    if isinstance(column.type, DateTime):
        return "moment" if column.type.timezone else "timestamp"
    for of_type, kind in _KINDS:
        if isinstance(column.type, of_type):
            return kind
    raise ValueRefusedError(
        f"{column.table.name}.{column.name} has a type that cannot be copied: {column.type!r}"
    )


def to_read(column: "Column[Any]") -> "ColumnElement[Any]":
    """Return what is selected for a column: JSON as its text, since None would stand for NULL and for its null."""
    return cast(column, Text).label(column.name) if kind_of(column) == "json" else column


class RowCodec:
    """Writes and reads the rows of one table, whose columns have these kinds."""

    def __init__(self, table: str, kinds: Mapping[str, str]) -> None:
        self.table = table
        self.kinds = dict(kinds)
        self._encode = [_ENCODE[kind] for kind in self.kinds.values()]
        self._decode = [
            (index, _DECODE[kind]) for index, kind in enumerate(kinds.values()) if kind in _DECODE
        ]

    def line(self, row: Row) -> bytes:
        """Return one line, without its end; raises `ValueRefusedError`."""
        try:
            return orjson.dumps([
                None if value is None else encode(value)
                for encode, value in zip(self._encode, row, strict=True)
            ])  # fmt: skip
        except (TypeError, ValueError) as error:
            raise ValueRefusedError(
                f"A row of {self.table} holds a value that its columns cannot hold: {self._which(row)}."
            ) from error

    def row(self, line: bytes) -> list[Any]:
        """Return the values of one line; raises `ValueRefusedError`."""
        try:
            row = [value for value, _ in zip(orjson.loads(line), self.kinds, strict=True)]
            for index, decode in self._decode:
                if row[index] is not None:
                    row[index] = decode(row[index])
        except (TypeError, ValueError, KeyError) as error:
            raise ValueRefusedError(f"A line of {self.table} is no row of it.") from error
        return row

    def _which(self, row: Row) -> str:
        """Name the columns that are wrong and never their values: they hold addresses and hashes."""
        wrong = []
        for name, encode, value in zip(self.kinds, self._encode, row, strict=False):
            try:
                orjson.dumps(None if value is None else encode(value))
            except (TypeError, ValueError):
                wrong.append(f"{name} ({self.kinds[name]}, found {type(value).__name__})")
        return ", ".join(wrong) or "another number of columns"


def _exactly(wanted: type) -> Encode:
    def encode(value: Any) -> Any:  # noqa: ANN401 - any value of a database
        if type(value) is not wanted:
            raise TypeError
        return value

    return encode


def _bytes(value: Any) -> str:  # noqa: ANN401 - the same
    if not isinstance(value, bytes):
        raise TypeError
    try:
        return "u" + value.decode()
    except UnicodeDecodeError:
        return "b" + b64encode(value).decode()


def _to_bytes(text: str) -> bytes:
    if text[:1] == "u":
        return text[1:].encode()
    if text[:1] == "b":
        return b64decode(text[1:], validate=True)
    raise ValueError("bytes without their mark")


def _float(value: Any) -> str:  # noqa: ANN401 - the same
    return (float(value) + 0.0).hex()  # SQLite has no negative zero


def _json(value: Any) -> str:  # noqa: ANN401 - the same
    return json.dumps(json.loads(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _timestamp(value: Any) -> str:  # noqa: ANN401 - the same
    if value.tzinfo is not None:
        raise ValueError("an offset")
    return str(value.isoformat())


def _moment(value: Any) -> str:  # noqa: ANN401 - the same
    # SQLite keeps no offset: what it gives back without one was UTC
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return str(aware.astimezone(UTC).isoformat())


_KINDS: Sequence[tuple[type, str]] = (
    (Boolean, "bool"),
    (Integer, "int"),
    (LargeBinary, "bytes"),
    (Float, "float"),
    (JSON, "json"),
    (String, "text"),
)
_ENCODE: Mapping[str, Encode] = {
    "text": _exactly(str),
    "int": _exactly(int),
    "bool": _exactly(bool),
    "bytes": _bytes,
    "float": _float,
    "json": _json,
    "timestamp": _timestamp,
    "moment": _moment,
}
_DECODE: Mapping[str, Encode] = {
    "bytes": _to_bytes,
    "float": float.fromhex,
    "timestamp": datetime.fromisoformat,
    "moment": datetime.fromisoformat,
}
