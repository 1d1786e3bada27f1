from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.app import Service, State, create_app
from common.errors import StartupError
from common.settings import Environment, ServiceSettings
from tests.api.common.conftest import Tiny
from tests.asgi import open_app


class TestStart:
    async def test_a_service_that_cannot_start_says_why_and_serves_nothing(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        @asynccontextmanager
        async def refuse(_settings: ServiceSettings) -> AsyncIterator[State]:
            raise StartupError("there is no model")
            yield {}

        app = create_app(Service("tiny", "A service for tests.", ServiceSettings, refuse, []))

        with pytest.raises(StartupError):
            async with open_app(app):
                pytest.fail("it started")

        assert app.state.refusal == "there is no model"
        assert "service.refused_to_start" in capsys.readouterr().out

    async def test_settings_are_read_when_it_starts_unless_given(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[ServiceSettings] = []

        @asynccontextmanager
        async def note(settings: ServiceSettings) -> AsyncIterator[State]:
            seen.append(settings)
            yield {"readiness": {}}

        app = create_app(Service("tiny", "A service for tests.", ServiceSettings, note, []))
        monkeypatch.setenv("SETTINGS_FILE", "")
        monkeypatch.setenv("ENVIRONMENT", "test")
        async with open_app(app) as client:
            response = await client.get("/ready")

        assert response.status_code == 200
        assert seen[0].environment is Environment.TEST

    async def test_starting_and_stopping_are_logged(
        self, tiny: Tiny, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with tiny.open():
            pass

        printed = capsys.readouterr().out
        assert '"event":"service.started"' in printed
        assert '"event":"service.stopped"' in printed
