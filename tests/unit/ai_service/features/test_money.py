from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from ai_service.features.money import RateBook
from common.contracts.rates import RateTable


def table(as_of: date, **rates: str) -> RateTable:
    return RateTable(
        base_currency="EUR",
        as_of=as_of,
        source="test",
        is_sample=False,
        rates={code: Decimal(rate) for code, rate in rates.items()},
    )


BOOK = RateBook(
    {"EUR": (table(date(2026, 1, 1), USD="0.9"), table(date(2026, 6, 1), USD="0.8", JPY="0.006"))}
)


class TestConvert:
    def test_needs_no_rate_for_the_base_currency(self) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC)

        assert RateBook().convert(Decimal("12.34"), "EUR", base_currency="EUR", at=at) == 1234

    @pytest.mark.parametrize(
        ("at", "expected"),
        [
            (datetime(2025, 12, 1, tzinfo=UTC), 900),
            (datetime(2026, 5, 31, 23, 59, tzinfo=UTC), 900),
            (datetime(2026, 6, 1, tzinfo=UTC), 800),
            (datetime(2027, 1, 1, tzinfo=UTC), 800),
        ],
    )
    def test_uses_the_last_table_on_or_before_the_day_or_else_the_oldest(
        self, at: datetime, expected: int
    ) -> None:
        assert BOOK.convert(Decimal(10), "USD", base_currency="EUR", at=at) == expected

    def test_rounds_half_to_even_in_minor_units(self) -> None:
        at = datetime(2026, 7, 1, tzinfo=UTC)

        assert BOOK.convert(Decimal(75), "JPY", base_currency="EUR", at=at) == 45
        assert (
            RateBook({"EUR": (table(date(2026, 1, 1), USD="0.005"),)}).convert(
                Decimal(1), "USD", base_currency="EUR", at=at
            )
            == 0
        )

    def test_says_that_it_does_not_know(self) -> None:
        at = datetime(2026, 7, 1, tzinfo=UTC)

        assert BOOK.convert(Decimal(1), "GBP", base_currency="EUR", at=at) is None
        assert BOOK.convert(Decimal(1), "USD", base_currency="CHF", at=at) is None
        assert BOOK.convert(Decimal(10**14), "USD", base_currency="EUR", at=at) is None
