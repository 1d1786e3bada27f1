"""Amounts in an institution's base currency, by dated rate tables held in memory."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from common.contracts.currencies import EXPONENTS, MAX_AMOUNT_MINOR, to_minor
from common.contracts.rates import RateTable


@dataclass(frozen=True)
class RateBook:
    """All rate tables known for each base currency, oldest first."""

    tables: Mapping[str, Sequence[RateTable]] = field(default_factory=dict)

    def convert(self, amount: Decimal, currency: str, *, base_currency: str, at: datetime) -> int | None:
        """Return `amount` in minor units of `base_currency`, rounded half to even; None when no rate is known.

        The table used is the last one dated on or before the UTC day of `at`, or the oldest there is.
        """
        if currency == base_currency:
            return int(amount.scaleb(EXPONENTS[currency]))
        tables = self.tables.get(base_currency, ())
        if not tables:
            return None
        rate = _table_for(tables, at.astimezone(UTC).date()).rates.get(currency)
        if rate is None:
            return None
        converted = to_minor(amount * rate, base_currency)
        return converted if converted <= MAX_AMOUNT_MINOR else None


def _table_for(tables: Sequence[RateTable], day: date) -> RateTable:
    position = bisect_right([table.as_of for table in tables], day)
    return tables[max(0, position - 1)]
