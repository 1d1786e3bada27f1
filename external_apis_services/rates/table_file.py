"""Reads the operator's file of currency rates.

The file is CSV in UTF-8 with the header `date,base,currency,rate,source`. A line says what one unit of `base` was
worth in `currency` on `date` - the way central banks publish: `2026-07-01,EUR,USD,1.0842,ECB` means that one euro
bought 1.0842 dollars. All lines of a date name the same base and source; the base itself has no line.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from common.contracts.currencies import EXPONENTS

HEADER = ("date", "base", "currency", "rate", "source")
MAX_SOURCE_LENGTH = 120
MAX_REPORTED = 20
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_RATE = re.compile(r"\d{1,15}(\.\d{1,15})?\Z", re.ASCII)


class RatesFileError(Exception):
    """The file cannot be used; `problems` says why, one line of the file at a time."""

    def __init__(self, problems: list[str]) -> None:
        shown = problems[:MAX_REPORTED]
        if len(problems) > MAX_REPORTED:
            shown.append(f"and {len(problems) - MAX_REPORTED} more")
        super().__init__("; ".join(shown))
        self.problems = shown


@dataclass(frozen=True)
class DatedRates:
    """What one unit of `base` was worth in each other currency on one day."""

    as_of: date
    base: str
    source: str
    rates: Mapping[str, Decimal]


def parse_rates(content: bytes) -> tuple[DatedRates, ...]:
    """Return the tables of the file, oldest first; raises `RatesFileError` naming every bad line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RatesFileError(["the file is not UTF-8"]) from None
    tables: dict[date, _Table] = {}
    problems: list[str] = []
    for number, cells in _lines(text, problems):
        problem = _take(cells, tables)
        if problem is not None:
            problems.append(f"line {number}: {problem}")
    if not problems and not tables:
        problems.append("the file has no rates")
    if problems:
        raise RatesFileError(problems)
    return tuple(
        DatedRates(as_of, table.base, table.source, MappingProxyType(table.rates))
        for as_of, table in sorted(tables.items())
    )


@dataclass(frozen=True)
class _Table:
    base: str
    source: str
    rates: dict[str, Decimal]


def _lines(text: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and cells of each line below the header; blank lines are skipped."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(next(lines, ())) != HEADER:
            problems.append(f"line 1: the header must be {','.join(HEADER)}")
            return
        for cells in lines:
            if cells:
                yield lines.line_num, cells
    except csv.Error:
        problems.append(f"line {lines.line_num}: this is not CSV")


def _take(cells: list[str], tables: dict[date, _Table]) -> str | None:
    """Add one line to its table and return None, or return what is wrong with it."""
    if len(cells) != len(HEADER):
        return f"there must be {len(HEADER)} values"
    day, base, currency, rate, source = cells
    as_of = _date(day)
    if as_of is None:
        return "the date must be a day as YYYY-MM-DD"
    if base not in EXPONENTS:
        return "the base is not an active ISO 4217 code"
    if currency not in EXPONENTS:
        return "the currency is not an active ISO 4217 code"
    if currency == base:
        return "the base has no line of its own"
    if not _RATE.fullmatch(rate) or not Decimal(rate):
        return "the rate must be a positive decimal number"
    if not 0 < len(source) <= MAX_SOURCE_LENGTH or not source.isprintable():
        return f"the source must be 1 to {MAX_SOURCE_LENGTH} printable characters"
    return _add(tables.setdefault(as_of, _Table(base, source, {})), base, currency, Decimal(rate), source)


def _add(table: _Table, base: str, currency: str, rate: Decimal, source: str) -> str | None:
    if table.base != base:
        return "another line of this date has another base"
    if table.source != source:
        return "another line of this date has another source"
    if currency in table.rates:
        return "this date already has a rate for this currency"
    table.rates[currency] = rate
    return None


def _date(text: str) -> date | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
