from decimal import Decimal

import pytest

from common.contracts.currencies import EXPONENTS, to_major, to_minor


class TestCurrencies:
    def test_are_three_capital_letters_each(self) -> None:
        assert all(len(code) == 3 and code.isalpha() and code.isupper() for code in EXPONENTS)
        assert set(EXPONENTS.values()) == {0, 2, 3}

    @pytest.mark.parametrize(
        ("amount", "currency", "minor"),
        [
            ("1.00", "EUR", 100),
            ("1.005", "EUR", 100),
            ("1.015", "EUR", 102),
            ("1.5", "JPY", 2),
            ("0.0005", "KWD", 0),
        ],
    )
    def test_round_half_to_even(self, amount: str, currency: str, minor: int) -> None:
        assert to_minor(Decimal(amount), currency) == minor

    @pytest.mark.parametrize(
        ("minor", "currency", "major"), [(100, "EUR", "1.00"), (7, "JPY", "7"), (1, "KWD", "0.001")]
    )
    def test_have_their_own_number_of_decimals(self, minor: int, currency: str, major: str) -> None:
        assert str(to_major(minor, currency)) == major
