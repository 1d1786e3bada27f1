"""Dated currency rates, as external_apis_services answers them."""

from datetime import date
from decimal import Decimal

from common.contracts.fields import Contract
from common.contracts.institutions import Currency


class RateTable(Contract):
    """What one unit of each currency was worth in `base_currency` on `as_of`.

    `is_sample` is true for the table shipped with the product, which is made up and not for real money.
    """

    base_currency: Currency
    as_of: date
    source: str
    is_sample: bool
    rates: dict[str, Decimal]


class RateTables(Contract):
    """All tables that are known, oldest first, in one base currency."""

    tables: tuple[RateTable, ...]
