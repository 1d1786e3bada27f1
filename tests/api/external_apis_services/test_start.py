from pathlib import Path

import pytest

from common.errors import StartupError
from external_apis_services.settings import GeoProviderName
from tests.api.external_apis_services.conftest import RunningService, Start


class TestReady:
    async def test_names_its_checks(self, service: RunningService) -> None:
        response = await service.client.get("/ready")

        assert response.json() == {
            "ready": True,
            "checks": {
                "provider_loaded": True,
                "rates_loaded": True,
                "keys_loaded": True,
                "access_known": True,
            },
        }


class TestStart:
    async def test_is_refused_without_the_country_file_in_words_that_help(
        self, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(StartupError, match=r"external_apis_services\.geoip\.download"):
            async with start(
                geoip_provider=GeoProviderName.DATABASE, geoip_country_db=tmp_path / "none.mmdb"
            ):
                pass

        assert "service.refused_to_start" in capsys.readouterr().out

    async def test_is_refused_with_rates_that_are_wrong_naming_the_line(
        self, start: Start, tmp_path: Path
    ) -> None:
        file = tmp_path / "rates.csv"
        file.write_text("date,base,currency,rate,source\n2026-07-01,EUR,USD,0,ECB\n", encoding="utf-8")

        with pytest.raises(StartupError, match=r"RATES_FILE cannot be used: line 2"):
            async with start(rates_file=file):
                pass
