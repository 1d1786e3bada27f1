"""Holds the operator's rates, follows changes of the file, and answers in any base currency."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from common.errors import PlatformError
from external_apis_services.rates.conversion import convert_all
from external_apis_services.rates.table_file import DatedRates, RatesFileError, parse_rates

SAMPLE_FILE = Path(__file__).with_name("sample_rates.csv")
MAX_FILE_BYTES = 64 * 1024 * 1024
_log = structlog.get_logger()
_Version = tuple[int, int, int] | None


class NoRatesError(PlatformError):
    """No table has a rate for this base currency."""

    status_code = 404
    type = "no-rates"
    title = "There are no rates for this base currency"


@dataclass(frozen=True)
class LoadedRates:
    """One version of the file, and the answers that were already made from it (at most one a currency)."""

    tables: tuple[DatedRates, ...]
    is_sample: bool
    answers: dict[str, bytes] = field(default_factory=dict)


class RateBook:
    """The current rates. A changed file that cannot be used leaves the old ones in place."""

    def __init__(self, path: Path, *, check_s: float) -> None:
        self._path = path
        self._check_s = check_s
        self._seen: _Version = None
        self._loaded = LoadedRates((), is_sample=False)

    async def is_loaded(self) -> bool:
        """Readiness: whether there is any table."""
        return bool(self._loaded.tables)

    async def load(self) -> None:
        """Read the file; raises `RatesFileError` and then keeps what was there."""
        # noted before reading, so that a change while reading is seen as one
        self._seen = _version(self._path)
        self._loaded = await asyncio.to_thread(load_rates, self._path)
        tables = self._loaded.tables
        _log.info(
            "rates.loaded",
            tables=len(tables),
            first=tables[0].as_of.isoformat(),
            last=tables[-1].as_of.isoformat(),
            is_sample=self._loaded.is_sample,
        )

    async def tables_in(self, base_currency: str) -> bytes:
        """Return all tables in `base_currency` as the JSON of `RateTables`; raises `NoRatesError`."""
        loaded = self._loaded
        answer = loaded.answers.get(base_currency)
        if answer is None:
            # years of daily tables take a while to convert
            answer = await asyncio.to_thread(_answer, loaded, base_currency)
            loaded.answers[base_currency] = answer
        if not answer:
            raise NoRatesError
        return answer

    async def keep_fresh(self) -> None:
        """Read the file again whenever it changes; runs until cancelled."""
        while True:
            await asyncio.sleep(self._check_s)
            await self.reload_if_changed()

    async def reload_if_changed(self) -> bool:
        """Read the file if it is another one than last time; return whether new rates are in use."""
        if _version(self._path) == self._seen:
            return False
        try:
            await self.load()
        except RatesFileError as error:
            _log.error("rates.not_reloaded", problems=error.problems)
            return False
        return True


def load_rates(path: Path) -> LoadedRates:
    """Read and check the file; raises `RatesFileError`. The shipped sample is known by its content."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RatesFileError([f"the file cannot be read: {error.strerror}"]) from error
    if len(content) > MAX_FILE_BYTES:
        raise RatesFileError([f"the file has more than {MAX_FILE_BYTES} bytes"])
    return LoadedRates(parse_rates(content), is_sample=content == SAMPLE_FILE.read_bytes())


def _answer(loaded: LoadedRates, base_currency: str) -> bytes:
    """Return the JSON of all tables; empty when none has the currency."""
    converted = convert_all(loaded.tables, base_currency, is_sample=loaded.is_sample)
    return converted.model_dump_json().encode() if converted.tables else b""


def _version(path: Path) -> _Version:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
