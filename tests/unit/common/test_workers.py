"""Which services may have several workers, and over what."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from ai_service.settings import AiSettings
from alert_service.settings import AlertSettings
from common.settings import ServiceSettings
from external_apis_services.settings import ExternalApisSettings, GeoProviderName
from log_service.settings import LogSettings
from user_service.settings import UserSettings

POSTGRES = "postgresql://assay@127.0.0.1/assay"
VALKEY = SecretStr("valkey://127.0.0.1:6379/0")


def made(settings: type[ServiceSettings], **values: Any) -> ServiceSettings:  # noqa: ANN401 - any setting
    return settings(_env_file=None, workers=2, **values)


class TestSeveralWorkers:
    @pytest.mark.parametrize("settings", [AiSettings, UserSettings])
    def test_are_taken_over_what_they_share(self, settings: type[ServiceSettings]) -> None:
        assert made(settings, database_url=POSTGRES, valkey_url=VALKEY).workers == 2

    @pytest.mark.parametrize("settings", [AiSettings, UserSettings])
    @pytest.mark.parametrize(
        "values", [{}, {"database_url": POSTGRES}, {"valkey_url": VALKEY}], ids=["neither", "one", "other"]
    )
    def test_are_refused_with_the_names_of_both_settings(
        self, settings: type[ServiceSettings], values: dict[str, Any]
    ) -> None:
        with pytest.raises(
            ValidationError, match=r"WORKERS=2 is refused.*DATABASE_URL=postgresql.*VALKEY_URL"
        ):
            made(settings, **values)

    @pytest.mark.parametrize(
        ("settings", "reason"), [(LogSettings, "owns the spool"), (AlertSettings, "makes the mails")]
    )
    def test_are_never_taken_where_one_process_owns_the_work(
        self, settings: type[ServiceSettings], reason: str
    ) -> None:
        with pytest.raises(ValidationError, match=reason):
            made(settings, database_url=POSTGRES, valkey_url=VALKEY)

    def test_are_taken_of_what_keeps_nothing_but_not_of_a_mock_that_is_told_what_to_do(self) -> None:
        found = made(ExternalApisSettings)

        with pytest.raises(ValidationError, match="mock are set in one process"):
            made(ExternalApisSettings, geoip_provider=GeoProviderName.MOCK)
        assert found.workers == 2
