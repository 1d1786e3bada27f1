import asyncio
from pathlib import Path

import pytest

from common.background import running
from common.contracts.rates import RateTables
from external_apis_services.rates.service import (
    MAX_FILE_BYTES,
    SAMPLE_FILE,
    NoRatesError,
    RateBook,
    load_rates,
)
from external_apis_services.rates.table_file import RatesFileError

HEADER = "date,base,currency,rate,source\n"
FIRST = HEADER + "2026-07-01,EUR,USD,1.25,test\n"
SECOND = HEADER + "2026-07-01,EUR,USD,1.6,test\n2026-07-02,EUR,USD,2,test\n"


def write(path: Path, content: str) -> None:
    """Put a new file in the place of the old one, as an operator's job would."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rates.csv"
    write(path, FIRST)
    return path


async def loaded(path: Path, *, check_s: float = 3600) -> RateBook:
    book = RateBook(path, check_s=check_s)
    await book.load()
    return book


async def dollars(book: RateBook) -> list[str]:
    """Return what a dollar was worth in euros on each day."""
    tables = RateTables.model_validate_json(await book.tables_in("EUR")).tables
    return [str(table.rates["USD"]) for table in tables]


class TestRateBook:
    async def test_has_no_rates_before_it_is_loaded(self, file: Path) -> None:
        book = RateBook(file, check_s=3600)

        assert not await book.is_loaded()

    async def test_answers_from_the_file(self, file: Path) -> None:
        book = await loaded(file)

        assert await book.is_loaded()
        assert await dollars(book) == ["0.8"]

    async def test_has_no_rates_for_a_currency_that_the_file_does_not_name(self, file: Path) -> None:
        book = await loaded(file)

        for _ in range(2):
            with pytest.raises(NoRatesError):
                await book.tables_in("CHF")

    async def test_reads_a_changed_file_and_forgets_old_answers(self, file: Path) -> None:
        book = await loaded(file)
        assert await dollars(book) == ["0.8"]
        write(file, SECOND)

        assert await book.reload_if_changed()

        assert await dollars(book) == ["0.625", "0.5"]

    async def test_leaves_an_unchanged_file_alone(self, file: Path) -> None:
        book = await loaded(file)

        assert not await book.reload_if_changed()

    async def test_keeps_the_old_rates_and_logs_the_line_when_the_new_file_is_wrong(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        book = await loaded(file)
        write(file, SECOND + "2026-07-03,EUR,USD,0,test\n")

        assert not await book.reload_if_changed()

        assert await dollars(book) == ["0.8"]
        printed = capsys.readouterr().out
        assert "rates.not_reloaded" in printed
        assert "line 4: the rate must be a positive decimal number" in printed

    async def test_says_once_that_a_file_is_wrong_and_takes_it_when_it_is_right_again(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        book = await loaded(file)
        write(file, HEADER)
        await book.reload_if_changed()
        capsys.readouterr()

        assert not await book.reload_if_changed()
        assert "rates.not_reloaded" not in capsys.readouterr().out

        write(file, SECOND)
        assert await book.reload_if_changed()
        assert await dollars(book) == ["0.625", "0.5"]

    async def test_keeps_the_old_rates_when_the_file_is_gone(self, file: Path) -> None:
        book = await loaded(file)
        remove(file)

        assert not await book.reload_if_changed()

        assert await dollars(book) == ["0.8"]

    async def test_follows_the_file_in_the_background(self, file: Path) -> None:
        book = await loaded(file, check_s=0.01)

        async with asyncio.timeout(10), running(book.keep_fresh):
            write(file, SECOND)
            while await dollars(book) != ["0.625", "0.5"]:  # noqa: ASYNC110 - the book has no event to wait for
                await asyncio.sleep(0.01)


class TestLoadRates:
    def test_knows_the_shipped_sample_by_its_content(self, tmp_path: Path) -> None:
        copy = tmp_path / "mine.csv"
        copy.write_bytes(SAMPLE_FILE.read_bytes())

        assert load_rates(SAMPLE_FILE).is_sample
        assert load_rates(copy).is_sample

    def test_takes_any_other_file_for_real_rates(self, file: Path) -> None:
        assert not load_rates(file).is_sample

    def test_refuses_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(RatesFileError, match="cannot be read"):
            load_rates(tmp_path / "nowhere.csv")

    def test_refuses_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(RatesFileError, match="cannot be read"):
            load_rates(tmp_path)

    def test_refuses_a_file_that_is_far_too_large(self, tmp_path: Path) -> None:
        file = tmp_path / "rates.csv"
        with file.open("wb") as opened:
            opened.truncate(MAX_FILE_BYTES + 1)

        with pytest.raises(RatesFileError, match="bytes"):
            load_rates(file)
