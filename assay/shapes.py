"""Tables as a copy describes them: by name and kind of each column. A copy may be older than this program."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.types import TypeEngine

from assay.errors import ValueRefusedError

Kinds = Mapping[str, str]
_TYPES: Mapping[str, TypeEngine[Any]] = {
    "text": Text(),
    "int": BigInteger(),
    "bool": Boolean(),
    "bytes": LargeBinary(),
    "float": Float(53),
    "json": JSON(),
    "timestamp": DateTime(),
    "moment": DateTime(timezone=True),
}


def table_of(name: str, kinds: Kinds) -> Table:
    """Return a table to read; raises `ValueRefusedError` for a kind of a later version."""
    unknown = sorted(set(kinds.values()) - _TYPES.keys())
    if unknown:
        raise ValueRefusedError(
            f"{name} has columns of a kind this version does not know: {', '.join(unknown)}."
        )
    return Table(name, MetaData(), *(Column(column, _TYPES[kind]) for column, kind in kinds.items()))


def table_to_fill(name: str, kinds: Kinds) -> Table:
    """Return the same table to insert into: JSON is handed over as the text it is."""
    as_text = {column: "text" if kind == "json" else kind for column, kind in kinds.items()}
    return table_of(name, as_text)
