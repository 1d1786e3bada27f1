from typing import Any

import pytest
from pydantic import ValidationError

from user_service.settings import UserSettings

LONG = "a secret that is longer than thirty-two characters"


def settings(**values: Any) -> UserSettings:  # noqa: ANN401 - any setting
    return UserSettings(_env_file=None, **values)


class TestUserSettings:
    def test_starts_without_any_value_in_development(self) -> None:
        made = settings()

        assert made.port == 8001
        assert (made.access_token_s, made.refresh_token_days) == (900, 30)

    def test_starts_in_production_with_a_passphrase_and_without_clients(self) -> None:
        made = settings(environment="production", signing_key_passphrase=LONG)

        assert made.ai_service_secret.get_secret_value() == ""

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"signing_key_passphrase": "short-passphrase"},
            {
                "signing_key_passphrase": LONG,
                "ai_service_secret": "change-me-to-something-long-enough-please",
            },
            {"signing_key_passphrase": LONG, "operator_secret": "short"},
        ],
    )
    def test_refuses_placeholders_and_short_secrets_in_production(self, values: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match="placeholder"):
            settings(environment="production", **values)

    @pytest.mark.parametrize(
        "values",
        [
            {"signing_key_passphrase": ""},
            {"access_token_s": 3601},
            {"password_workers": 0},
            {"password_queue": 0},
            {"refresh_token_days": 0},
        ],
    )
    def test_refuses_values_out_of_range(self, values: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            settings(**values)
