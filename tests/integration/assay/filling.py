"""Fills the tables of any service with rows of every kind that its columns allow."""

import hashlib
from typing import Any

from sqlalchemy import Boolean, Column, Integer, LargeBinary, Table, insert

from assay.databases import ServiceDatabase
from common.db import migrate, writing_engine
from common.tenancy import of_every_tenant

GREATEST = 2**63 - 1
RARE = "Ä\u2028\U0001f600'\"\\\t"


def filled(database: ServiceDatabase, url: str, *, rows: int = 7) -> str:
    """Migrate the database at `url`, put `rows` rows into each table, and return the url."""
    migrate(url, migrations=database.migrations)
    engine = writing_engine(url)
    made: dict[str, list[dict[str, Any]]] = {}
    with engine.begin() as connection:
        for table in database.tables:
            made[table.name] = [_row(table, number, made) for number in range(1, rows + 1)]
            connection.execute(of_every_tenant(insert(table), "a test fills everything"), made[table.name])
    engine.dispose()
    return url


def _row(table: Table, number: int, made: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {column.name: _value(column, number, made) for column in table.columns}


def _value(column: Column[Any], number: int, made: dict[str, list[dict[str, Any]]]) -> object:
    for key in column.foreign_keys:
        return made[key.column.table.name][number - 1][key.column.name]
    if column.nullable and number % 3 == 0:
        return None
    if isinstance(column.type, Boolean):
        return number % 2 == 0
    if isinstance(column.type, Integer):
        is_big = "BIG" in str(column.type).upper() and number == 1 and not column.primary_key
        return GREATEST if is_big else number
    if isinstance(column.type, LargeBinary):
        return [b"", b'{"text":"' + RARE.encode() + b'"}', hashlib.sha256(bytes([number])).digest()][
            number % 3
        ]
    length = getattr(column.type, "length", None) or 200
    return f"{number}-{column.name}{RARE}"[:length]
