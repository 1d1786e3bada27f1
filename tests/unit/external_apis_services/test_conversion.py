from datetime import date
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from common.contracts.rates import RateTable
from external_apis_services.rates.conversion import SIGNIFICANT_DIGITS, convert, convert_all
from external_apis_services.rates.table_file import DatedRates

RATE = st.decimals(min_value="0.000001", max_value="1000000", places=6)
ERROR_LIMIT = Fraction(1, 2 * 10 ** (SIGNIFICANT_DIGITS - 1))


def table(**rates: str | Decimal) -> DatedRates:
    """Make a table in euros."""
    numbers = {currency: Decimal(rate) for currency, rate in rates.items()}
    return DatedRates(date(2026, 7, 1), "EUR", "test", numbers)


def converted(dated: DatedRates, base_currency: str) -> RateTable:
    """Convert to a currency that the table has."""
    found = convert(dated, base_currency, is_sample=False)
    assert found is not None
    return found


def relative_error(rounded: Decimal, exact: Fraction) -> Fraction:
    """Return how far `rounded` is from `exact`, as a share of it."""
    return abs(Fraction(rounded) - exact) / exact


class TestConvert:
    def test_turns_rates_round_in_the_base_of_the_file(self) -> None:
        rates = converted(table(USD="1.25", JPY="160"), "EUR").rates

        assert rates == {"EUR": Decimal(1), "JPY": Decimal("0.00625"), "USD": Decimal("0.8")}

    def test_crosses_rates_for_another_base(self) -> None:
        rates = converted(table(USD="1.25", JPY="160", GBP="0.8"), "USD").rates

        assert rates == {
            "EUR": Decimal("1.25"),
            "GBP": Decimal("1.5625"),
            "JPY": Decimal("0.0078125"),
            "USD": Decimal(1),
        }

    def test_rounds_to_twelve_significant_digits_half_to_even(self) -> None:
        rates = converted(table(USD="3", JPY="1.000000000005", KRW="1.000000000015"), "EUR").rates
        crossed = converted(table(USD="1.000000000005", GBP="1.000000000015"), "USD").rates

        assert str(rates["USD"]) == "0.333333333333"
        assert str(crossed["EUR"]) == "1.00000000000"
        assert str(converted(table(GBP="1.000000000015"), "GBP").rates["EUR"]) == "1.00000000002"

    def test_keeps_what_the_file_says_of_itself(self) -> None:
        found = convert(table(USD="1.25"), "USD", is_sample=True)

        assert found is not None
        assert (found.as_of, found.source, found.base_currency) == (date(2026, 7, 1), "test", "USD")
        assert found.is_sample

    def test_has_no_table_for_a_currency_without_a_rate(self) -> None:
        assert convert(table(USD="1.25"), "GBP", is_sample=False) is None

    @given(usd=RATE, jpy=RATE)
    def test_is_within_half_a_unit_of_the_twelfth_digit_of_the_exact_cross_rate(
        self, usd: Decimal, jpy: Decimal
    ) -> None:
        rates = converted(table(USD=usd, JPY=jpy), "USD").rates

        assert relative_error(rates["JPY"], Fraction(usd) / Fraction(jpy)) <= ERROR_LIMIT
        assert relative_error(rates["EUR"], Fraction(usd)) <= ERROR_LIMIT
        assert all(len(rate.as_tuple().digits) <= SIGNIFICANT_DIGITS for rate in rates.values())

    @given(usd=RATE, jpy=RATE)
    def test_there_and_back_is_one(self, usd: Decimal, jpy: Decimal) -> None:
        dated = table(USD=usd, JPY=jpy)

        there = Fraction(converted(dated, "USD").rates["JPY"])
        back = Fraction(converted(dated, "JPY").rates["USD"])

        assert abs(there * back - 1) <= 3 * ERROR_LIMIT

    @given(usd=RATE, jpy=RATE, gbp=RATE)
    def test_going_over_a_third_currency_changes_nothing(
        self, usd: Decimal, jpy: Decimal, gbp: Decimal
    ) -> None:
        dated = table(USD=usd, JPY=jpy, GBP=gbp)

        straight = Fraction(converted(dated, "USD").rates["JPY"])
        over_gbp = Fraction(converted(dated, "USD").rates["GBP"]) * Fraction(
            converted(dated, "GBP").rates["JPY"]
        )

        assert abs(straight - over_gbp) / straight <= 4 * ERROR_LIMIT

    @given(usd=RATE, jpy=RATE)
    def test_any_base_has_the_same_currencies_and_is_worth_one(self, usd: Decimal, jpy: Decimal) -> None:
        dated = table(USD=usd, JPY=jpy)

        for base_currency in ("EUR", "USD", "JPY"):
            rates = converted(dated, base_currency).rates
            assert list(rates) == ["EUR", "JPY", "USD"]
            assert rates[base_currency] == 1


class TestConvertAll:
    def test_leaves_out_the_days_that_have_no_rate(self) -> None:
        first = DatedRates(date(2026, 1, 2), "EUR", "test", {"USD": Decimal("1.2")})
        second = DatedRates(date(2026, 7, 1), "EUR", "test", {"USD": Decimal("1.25"), "GBP": Decimal("0.8")})

        assert [each.as_of for each in convert_all([first, second], "GBP", is_sample=False).tables] == [
            second.as_of
        ]
        assert len(convert_all([first, second], "USD", is_sample=False).tables) == 2
