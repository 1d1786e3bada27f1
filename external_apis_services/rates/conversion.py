"""Turns a table of rates round, so that it says what each currency is worth in the one a caller counts in."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

from common.contracts.rates import RateTable, RateTables
from external_apis_services.rates.table_file import DatedRates

SIGNIFICANT_DIGITS = 12
# The operands are exact, so this is the one rounding a converted rate ever sees.
_ROUNDING = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_HALF_EVEN)
_ONE = Decimal(1)


def convert(table: DatedRates, base_currency: str, *, is_sample: bool) -> RateTable | None:
    """Return what one unit of each currency was worth in `base_currency`; None when the table has no rate for that.

    With b units of `base_currency` and c units of a currency for one unit of the table's own base, one unit of the
    currency is worth b / c, rounded half to even to 12 significant digits. `base_currency` itself is worth exactly 1.
    """
    units = {**table.rates, table.base: _ONE}
    wanted = units.get(base_currency)
    if wanted is None:
        return None
    rates = {
        currency: _ONE if currency == base_currency else _ROUNDING.divide(wanted, each)
        for currency, each in sorted(units.items())
    }
    return RateTable(
        base_currency=base_currency,
        as_of=table.as_of,
        source=table.source,
        is_sample=is_sample,
        rates=rates,
    )


def convert_all(tables: Sequence[DatedRates], base_currency: str, *, is_sample: bool) -> RateTables:
    """Return every table that has a rate for `base_currency`, in that currency, oldest first."""
    converted = (convert(table, base_currency, is_sample=is_sample) for table in tables)
    return RateTables(tables=tuple(table for table in converted if table is not None))
