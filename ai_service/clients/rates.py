"""Keeps the dated currency rates in memory, for every base currency that was asked for."""

import asyncio
from collections.abc import Iterable

import httpx
import structlog
from pydantic import ValidationError

from ai_service.features.money import RateBook
from common.auth.service_tokens import ServiceTokens
from common.contracts.rates import RateTables
from common.errors import PlatformError
from common.http import answers_up_to

RETRY_S = 2.0
MAX_ANSWER_BYTES = 16_777_216  # about ten years of daily tables
_log = structlog.get_logger()


class RatesClient:
    """Rate tables by base currency; fetched in the background, so that no transaction waits for them."""

    def __init__(
        self, client: httpx.AsyncClient, tokens: ServiceTokens, *, refresh_s: float, wanted: Iterable[str]
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._refresh_s = refresh_s
        self._wanted = {"EUR", "USD", *wanted}
        self._news = asyncio.Event()
        self._book = RateBook()
        self._asked = False

    async def asked(self) -> bool:
        """Readiness: whether the rates were asked for once, or nobody gives the token for it.

        Without an answer amounts degrade, visibly.
        """
        return self._asked or self._tokens.unanswered

    def book_for(self, base_currency: str) -> RateBook:
        """Return what is known; a base currency that is asked for the first time is fetched soon."""
        if base_currency not in self._wanted:
            self._wanted.add(base_currency)
            self._news.set()
        return self._book

    async def keep_fresh(self) -> None:
        """Fetch all wanted tables now, at every refresh, and when a new currency is wanted; until cancelled."""
        await self._tokens.wait()
        while True:
            self._news.clear()
            complete = await self.refresh()
            self._asked = True
            wait_s = self._refresh_s if complete else RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> bool:
        """Fetch once; return whether every wanted currency was answered. What fails keeps its last tables."""
        answers = await asyncio.gather(*(self._fetch(currency) for currency in sorted(self._wanted)))
        found = {
            tables.tables[0].base_currency: tables.tables for tables in answers if tables and tables.tables
        }
        self._book = RateBook({**self._book.tables, **found})
        return all(answer is not None for answer in answers)

    async def _fetch(self, base_currency: str) -> RateTables | None:
        try:
            response = await self._client.get(
                "/v1/internal/rates",
                params={"base_currency": base_currency},
                headers=self._tokens.header(),
                extensions=answers_up_to(MAX_ANSWER_BYTES),
            )
            if response.status_code == httpx.codes.NOT_FOUND:
                return RateTables(tables=())
            response.raise_for_status()
            return RateTables.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError, PlatformError, OSError) as error:
            _log.warning("rates.not_fetched", base_currency=base_currency, error=type(error).__name__)
            return None
