"""No test reads the settings file of whoever runs it."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_settings_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point every process at a settings file that is empty."""
    file = tmp_path_factory.mktemp("settings") / "empty.env"
    file.touch()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SETTINGS_FILE", str(file))
        yield
