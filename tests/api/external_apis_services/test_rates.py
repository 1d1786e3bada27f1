import asyncio
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from common.contracts.rates import RateTables
from common.contracts.tokens import Scope
from tests.api.external_apis_services.conftest import RunningService, Start

HEADER = "date,base,currency,rate,source\n"


async def rates(service: RunningService, query: str) -> httpx.Response:
    return await service.client.get(f"/v1/internal/rates{query}", headers=service.headers(Scope.RATES_READ))


def write(path: Path, content: str) -> Path:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
    return path


class TestReadRates:
    async def test_answers_the_shipped_sample_and_says_that_it_is_one(self, service: RunningService) -> None:
        response = await rates(service, "?base_currency=USD")

        assert response.status_code == 200
        tables = RateTables.model_validate_json(response.content).tables
        assert len(tables) == 3
        assert [table.as_of for table in tables] == sorted(table.as_of for table in tables)
        assert all(table.is_sample and table.base_currency == "USD" for table in tables)
        assert all(table.rates["USD"] == 1 and len(table.rates) > 40 for table in tables)
        assert Decimal("0.9") < tables[0].rates["EUR"] < Decimal("1.3")

    async def test_answers_the_operators_file_as_real(self, start: Start, tmp_path: Path) -> None:
        file = write(tmp_path / "rates.csv", HEADER + "2026-07-01,EUR,USD,1.25,ECB\n")
        async with start(rates_file=file) as service:
            response = await rates(service, "?base_currency=EUR")

        assert response.json() == {
            "tables": [
                {
                    "base_currency": "EUR",
                    "as_of": "2026-07-01",
                    "source": "ECB",
                    "is_sample": False,
                    "rates": {"EUR": "1", "USD": "0.8"},
                }
            ]
        }

    async def test_follows_a_changed_file_without_a_restart(self, start: Start, tmp_path: Path) -> None:
        file = write(tmp_path / "rates.csv", HEADER + "2026-07-01,EUR,USD,1.25,ECB\n")
        async with start(rates_file=file, rates_check_s=0.01) as service:
            write(file, HEADER + "2026-07-01,EUR,USD,1.6,ECB\n")

            async with asyncio.timeout(10):
                while '"0.625"' not in (await rates(service, "?base_currency=EUR")).text:  # noqa: ASYNC110 - a caller can only ask
                    await asyncio.sleep(0.01)

    async def test_has_no_rates_for_a_currency_that_no_table_names(self, service: RunningService) -> None:
        response = await rates(service, "?base_currency=LKR")

        assert response.status_code == 404
        assert response.json()["type"] == "urn:assay:problem:no-rates"

    @pytest.mark.parametrize(
        "query", ["", "?base_currency=", "?base_currency=eur", "?base_currency=DEM", "?base=EUR"]
    )
    async def test_refuses_what_is_no_currency(self, service: RunningService, query: str) -> None:
        response = await rates(service, query)

        assert response.status_code == 422
        assert response.json()["type"] == "urn:assay:problem:invalid-request"
        assert "DEM" not in response.text
