from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError

from common.errors import StartupError
from common.settings import Environment, ServiceSettings, load_settings

LONG = "a secret that is longer than thirty-two characters"
CANARY = "canary-7391"


class TinySettings(ServiceSettings):
    port: int = Field(8999, ge=0, le=65535, description="port to listen on")
    database_password: SecretStr = Field(SecretStr("change-me"), description="a second secret")
    tags: list[str] = Field(default_factory=list, description="a list")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; nothing but a test's own settings is found."""
    monkeypatch.chdir(tmp_path)
    for name in (*TinySettings.model_fields, "settings_file"):
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


class TestOrder:
    def test_the_default_counts_when_nothing_else_says_so(self) -> None:
        settings = load_settings(TinySettings)

        assert (settings.port, settings.host) == (8999, "127.0.0.1")

    def test_a_file_goes_before_the_default(self, empty_folder: Path) -> None:
        (empty_folder / ".env").write_text("PORT=1001\nSOMEBODY_ELSES=1\n")

        assert load_settings(TinySettings).port == 1001

    def test_the_named_file_is_read_in_place_of_the_usual_one(
        self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (empty_folder / ".env").write_text("PORT=1001\nHOST=127.0.0.7\n")
        (empty_folder / "other.env").write_text("PORT=1002\n")
        monkeypatch.setenv("SETTINGS_FILE", "other.env")

        settings = load_settings(TinySettings)

        assert (settings.port, settings.host) == (1002, "127.0.0.1")

    def test_the_environment_goes_before_a_file(
        self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (empty_folder / ".env").write_text("PORT=1001\n")
        monkeypatch.setenv("PORT", "1003")

        assert load_settings(TinySettings).port == 1003

    def test_a_flag_goes_before_everything(self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (empty_folder / ".env").write_text("PORT=1001\n")
        monkeypatch.setenv("PORT", "1003")

        assert load_settings(TinySettings, flags=["--port", "1004"]).port == 1004

    def test_each_setting_is_looked_up_on_its_own(
        self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (empty_folder / ".env").write_text("HOST=127.0.0.7\n")
        monkeypatch.setenv("LOG_LEVEL", "error")

        settings = load_settings(TinySettings, flags=["--graceful-shutdown-s", "3"])

        assert (settings.host, settings.log_level, settings.graceful_shutdown_s) == ("127.0.0.7", "error", 3)


class TestFile:
    def test_a_named_file_must_be_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SETTINGS_FILE", "missing.env")

        with pytest.raises(StartupError, match=r"missing\.env"):
            load_settings(TinySettings)

    @pytest.mark.parametrize("name", ["", "/dev/null"])
    def test_none_can_be_named(self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        (empty_folder / ".env").write_text("PORT=1001\n")
        monkeypatch.setenv("SETTINGS_FILE", name)

        assert load_settings(TinySettings).port == 8999

    def test_one_that_is_no_text_is_refused_in_words(self, empty_folder: Path) -> None:
        (empty_folder / ".env").write_bytes(b"PORT=\xff\xfe\n")

        with pytest.raises(StartupError, match="cannot be read"):
            load_settings(TinySettings)


class TestMistakes:
    def test_all_of_them_are_named_without_their_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PORT", CANARY)
        monkeypatch.setenv("LOG_LEVEL", CANARY)
        monkeypatch.setenv("ENVIRONMENT", CANARY)

        with pytest.raises(ValidationError) as caught:
            load_settings(TinySettings)

        assert {str(error["loc"][0]) for error in caught.value.errors()} == {
            "port",
            "log_level",
            "environment",
        }
        assert CANARY not in str(caught.value)

    def test_a_list_that_is_no_json_is_named_without_its_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TAGS", f"[{CANARY}")

        with pytest.raises(StartupError, match='"tags"') as caught:
            load_settings(TinySettings)

        assert CANARY not in str(caught.value)

    def test_an_unknown_flag_ends_the_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            load_settings(TinySettings, flags=["--prot", "1"])

        assert "--prot" in capsys.readouterr().err

    def test_settings_do_not_change(self) -> None:
        settings = load_settings(TinySettings)

        with pytest.raises(ValidationError):
            settings.port = 1  # type: ignore[misc]

    def test_secrets_are_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_PASSWORD", CANARY)

        assert CANARY not in repr(load_settings(TinySettings))


class TestFailpoints:
    def test_are_read_before_the_service_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAILPOINTS", "decisions.after_commit:explode")

        with pytest.raises(ValidationError, match="FAILPOINTS is a list"):
            load_settings(TinySettings)


class TestProduction:
    @pytest.mark.parametrize("secret", ["change-me", "change-me-" + "x" * 40, "short", "x" * 31])
    def test_refuses_placeholders_and_short_secrets_by_name_and_without_value(
        self, monkeypatch: pytest.MonkeyPatch, secret: str
    ) -> None:
        monkeypatch.setenv("ENVIRONMENT", "production")
        monkeypatch.setenv("SERVICE_CLIENT_SECRET", LONG)
        monkeypatch.setenv("DATABASE_PASSWORD", secret)

        with pytest.raises(ValidationError) as caught:
            load_settings(TinySettings)

        assert "DATABASE_PASSWORD is a placeholder" in str(caught.value)
        assert "SERVICE_CLIENT_SECRET" not in str(caught.value)
        assert secret not in str(caught.value).replace("DATABASE_PASSWORD is a placeholder or shorter", "")

    def test_names_every_weak_secret_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENVIRONMENT", "production")

        with pytest.raises(
            ValidationError, match=r"SERVICE_CLIENT_SECRET is a placeholder.*DATABASE_PASSWORD is"
        ):
            load_settings(TinySettings)

    @pytest.mark.parametrize("second", [LONG, ""])
    def test_starts_with_long_secrets_and_without_those_that_are_not_used(
        self, monkeypatch: pytest.MonkeyPatch, second: str
    ) -> None:
        monkeypatch.setenv("ENVIRONMENT", "production")
        monkeypatch.setenv("SERVICE_CLIENT_SECRET", LONG)
        monkeypatch.setenv("DATABASE_PASSWORD", second)

        assert load_settings(TinySettings).environment is Environment.PRODUCTION

    def test_refuses_failpoints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENVIRONMENT", "production")
        monkeypatch.setenv("SERVICE_CLIENT_SECRET", LONG)
        monkeypatch.setenv("DATABASE_PASSWORD", LONG)
        monkeypatch.setenv("FAILPOINTS", "decisions.after_commit:kill")

        with pytest.raises(ValidationError, match="FAILPOINTS is for tests"):
            load_settings(TinySettings)

    @pytest.mark.parametrize("environment", ["development", "test"])
    def test_elsewhere_placeholders_do(self, monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
        monkeypatch.setenv("ENVIRONMENT", environment)

        assert load_settings(TinySettings).service_client_secret.get_secret_value() == "change-me"
