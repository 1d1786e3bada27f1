from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.currencies import EXPONENTS
from external_apis_services.rates.service import SAMPLE_FILE
from external_apis_services.rates.table_file import MAX_REPORTED, RatesFileError, parse_rates

HEADER = "date,base,currency,rate,source\n"


def problems(content: str | bytes) -> list[str]:
    """Return what is wrong with a file."""
    with pytest.raises(RatesFileError) as caught:
        parse_rates(content if isinstance(content, bytes) else content.encode())
    return caught.value.problems


class TestParseRates:
    def test_reads_tables_by_date_with_the_oldest_first(self) -> None:
        tables = parse_rates(
            (
                HEADER
                + "2026-07-01,EUR,USD,1.0842,ECB\n"
                + "2026-01-02,USD,JPY,155.5,Fed\n"
                + "2026-07-01,EUR,GBP,0.8611,ECB\n"
            ).encode()
        )

        assert [(table.as_of, table.base, table.source) for table in tables] == [
            (date(2026, 1, 2), "USD", "Fed"),
            (date(2026, 7, 1), "EUR", "ECB"),
        ]
        assert tables[1].rates == {"USD": Decimal("1.0842"), "GBP": Decimal("0.8611")}

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_takes_a_byte_order_mark_either_newline_and_blank_lines(self, newline: str) -> None:
        content = "\ufeff" + HEADER + '\n2026-07-01,EUR,USD,1.0842,"A bank, somewhere"\n\n'

        (table,) = parse_rates(content.replace("\n", newline).encode())

        assert table.source == "A bank, somewhere"

    def test_keeps_every_digit(self) -> None:
        (table,) = parse_rates((HEADER + "2026-07-01,BTN,VND,123456789012345.123456789012345,X\n").encode())

        assert str(table.rates["VND"]) == "123456789012345.123456789012345"

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("2026-07-01,EUR,USD,1.08", "there must be 5 values"),
            ("2026-07-01,EUR,USD,1.08,ECB,more", "there must be 5 values"),
            ("2026-7-1,EUR,USD,1.08,ECB", "the date must be a day"),
            ("20260701,EUR,USD,1.08,ECB", "the date must be a day"),
            ("2026-02-30,EUR,USD,1.08,ECB", "the date must be a day"),
            ("٢٠٢٦-07-01,EUR,USD,1.08,ECB", "the date must be a day"),
            ("2026-07-01,EU,USD,1.08,ECB", "the base is not an active"),
            ("2026-07-01,EUR,usd,1.08,ECB", "the currency is not an active"),
            ("2026-07-01,EUR,DEM,1.95,ECB", "the currency is not an active"),
            ("2026-07-01,EUR,EUR,1,ECB", "the base has no line"),
            ("2026-07-01,EUR,USD,0,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,0.000,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,-1.08,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,+1.08,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,1e3,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,NaN,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,Infinity,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,1_000,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD, 1.08,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,1.0842١,ECB", "the rate must be a positive"),
            ('2026-07-01,EUR,USD,"1,08",ECB', "the rate must be a positive"),
            ("2026-07-01,EUR,USD,1234567890123456,ECB", "the rate must be a positive"),
            ("2026-07-01,EUR,USD,1.08,", "the source must be"),
            (f"2026-07-01,EUR,USD,1.08,{'x' * 121}", "the source must be"),
            ("2026-07-01,EUR,USD,1.08,EC\x00B", "the source must be"),
            ("2026-07-01,USD,JPY,155,ECB", "another base"),
            ("2026-07-01,EUR,USD,1.08,Fed", "another source"),
            ("2026-07-01,EUR,GBP,0.87,ECB", "already has a rate"),
            ('2026-07-01,EUR,USD,1.08,"EC"B', "this is not CSV"),
        ],
    )
    def test_names_the_line_and_what_is_wrong_with_it(self, line: str, problem: str) -> None:
        found = problems(HEADER + "2026-07-01,EUR,GBP,0.86,ECB\n" + line + "\n")

        assert len(found) == 1
        assert found[0].startswith("line 3: ")
        assert problem in found[0]

    def test_names_every_bad_line_up_to_a_limit(self) -> None:
        found = problems(HEADER + "bad\n" * (MAX_REPORTED + 5))

        assert found[0].startswith("line 2: ")
        assert len(found) == MAX_REPORTED + 1
        assert found[-1] == "and 5 more"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "line 1: the header"),
            (b"date,base,currency,rate\n", "line 1: the header"),
            (b"Date,Base,Currency,Rate,Source\n", "line 1: the header"),
            (HEADER.encode(), "the file has no rates"),
            (HEADER.encode("utf-16"), "the file is not UTF-8"),
            (HEADER.encode() + b"\xff\n", "the file is not UTF-8"),
            (b'"date', "line 1: this is not CSV"),
        ],
    )
    def test_refuses_a_file_that_is_not_such_a_table(self, content: bytes, problem: str) -> None:
        found = problems(content)

        assert len(found) == 1
        assert problem in found[0]

    @given(st.binary(max_size=300))
    def test_reads_or_refuses_any_bytes(self, content: bytes) -> None:
        for candidate in (content, HEADER.encode() + content):
            try:
                read = bool(parse_rates(candidate))
            except RatesFileError as error:
                read = bool(error.problems)

            assert read


class TestSampleFile:
    def test_has_about_forty_currencies_on_each_of_three_days_and_says_that_it_is_made_up(self) -> None:
        tables = parse_rates(SAMPLE_FILE.read_bytes())

        assert [table.as_of for table in tables] == [date(2026, 1, 2), date(2026, 4, 1), date(2026, 7, 1)]
        for table in tables:
            assert table.base == "EUR"
            assert len(table.rates) >= 40
            assert set(table.rates) < set(EXPONENTS)
            assert "made-up" in table.source
