"""What the stack is made of."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from local_stack.parts import Part, stack_parts
from local_stack.service_secrets import NAMES
from local_stack.settings import GeoProvider, StackSettings, Stores
from tests.env_example import SETTINGS_BY_SERVICE

SECRETS = {name: f"{name.lower()}-0123456789-0123456789-0123456789" for name in NAMES}


def parts_of(*, reload: bool = False, **settings: object) -> dict[str, Part]:
    chosen = StackSettings.model_validate({"var_dir": Path("here"), **settings})
    made = stack_parts(chosen, SECRETS, geoip_provider=GeoProvider.MOCK, reload=reload)
    return {part.name: part for part in made}


class TestStackParts:
    def test_come_after_what_they_need(self) -> None:
        assert list(parts_of()) == [
            "object_store",
            "mailbox",
            "user_service",
            "external_apis_services",
            "log_service",
            "alert_service",
            "ai_service",
        ]

    def test_of_a_stack_on_servers_come_after_postgresql_and_valkey(self) -> None:
        assert list(parts_of(stores=Stores.SERVERS)) == ["postgresql", "valkey", *parts_of()]

    def test_servers_that_somebody_else_runs_are_no_parts(self) -> None:
        given: dict[str, Any] = {
            "postgresql_url": "postgresql://admin:secret@db:5432/x",
            "valkey_url": "valkey://cache/0",
        }

        parts = parts_of(stores=Stores.SERVERS, **given)

        assert list(parts) == list(parts_of())
        assert parts["ai_service"].environment["VALKEY_URL"] == "valkey://cache/0"
        assert "@db:5432/assay_ai_service" in parts["ai_service"].environment["DATABASE_URL"]

    def test_on_servers_each_service_has_a_database_and_a_role_of_its_own(self) -> None:
        parts = parts_of(stores=Stores.SERVERS)
        urls = [
            make_url(parts[service].environment["DATABASE_URL"])
            for service in ("user_service", "log_service", "alert_service", "ai_service")
        ]

        for each in (
            {url.database for url in urls},
            {url.username for url in urls},
            {url.password for url in urls},
        ):
            assert len(each) == len(urls)

    def test_an_embedded_stack_uses_no_valkey_of_whoever_starts_it(self) -> None:
        assert parts_of()["ai_service"].environment["VALKEY_URL"] == ""

    def test_no_service_is_told_the_passwords_of_the_servers(self) -> None:
        parts = parts_of(stores=Stores.SERVERS)

        for service in SETTINGS_BY_SERVICE:
            assert SECRETS["POSTGRESQL_PASSWORD"] not in str(dict(parts[service].environment))

    def test_take_their_usual_ports(self) -> None:
        urls = {name: part.url for name, part in parts_of().items()}

        assert urls["ai_service"] == "http://127.0.0.1:8000"
        assert urls["user_service"] == "http://127.0.0.1:8001"
        assert urls["alert_service"] == "http://127.0.0.1:8003"
        assert urls["log_service"] == "http://127.0.0.1:8004"
        assert urls["external_apis_services"] == "http://127.0.0.1:8005"

    def test_move_together(self) -> None:
        before, after = parts_of(), parts_of(port_offset=100)

        for name, part in before.items():
            assert after[name].ports == {setting: port + 100 for setting, port in part.ports.items()}

    @pytest.mark.parametrize("service", ["ai_service", "user_service"])
    @pytest.mark.parametrize("moved", ["log_service", "alert_service"])
    def test_a_moved_service_is_still_found_by_the_others(self, service: str, moved: str) -> None:
        changed: dict[str, Any] = {f"{moved}_port": 9999}

        environment = parts_of(**changed)[service].environment

        assert environment[f"{moved.upper()}_URL"] == "http://127.0.0.1:9999"

    def test_no_two_share_a_port(self) -> None:
        ports = [port for part in parts_of().values() for port in part.ports.values()]

        assert len(set(ports)) == len(ports)

    @pytest.mark.parametrize("service", SETTINGS_BY_SERVICE)
    def test_every_name_in_the_environment_is_a_setting(self, service: str) -> None:
        known = {name.upper() for name in SETTINGS_BY_SERVICE[service].model_fields}

        assert set(parts_of()[service].environment) <= known

    @pytest.mark.parametrize("service", SETTINGS_BY_SERVICE)
    def test_every_service_takes_its_environment(self, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
        part = parts_of()[service]
        for name, value in part.environment.items():
            monkeypatch.setenv(name, value)

        settings = SETTINGS_BY_SERVICE[service]()

        assert part.url == f"http://{settings.host}:{settings.port}"

    def test_each_service_shows_the_secret_that_user_service_knows(self) -> None:
        parts = parts_of()
        known = parts["user_service"].environment

        for service in ("ai_service", "alert_service", "log_service"):
            shown = parts[service].environment["SERVICE_CLIENT_SECRET"]
            assert shown == known[f"{service.upper()}_SECRET"]

    def test_nothing_is_kept_outside_the_folder(self) -> None:
        here = str(Path("here").resolve())
        for part in parts_of().values():
            for name, value in part.environment.items():
                if name.endswith(("_URL", "_DIR", "_SNAPSHOT", "_DB")) and "/" in value:
                    assert value.startswith(("http://127.0.0.1:", here, f"sqlite:///{here}"))

    def test_secrets_do_not_show_when_printed(self) -> None:
        shown = repr(parts_of(stores=Stores.SERVERS))

        assert not [name for name, secret in SECRETS.items() if secret in shown]

    def test_no_list_of_processes_shows_a_secret(self) -> None:
        commands = str([part.command for part in parts_of(stores=Stores.SERVERS).values()])

        assert not [name for name, secret in SECRETS.items() if secret in commands]

    def test_reload_watches_the_service_and_what_it_shares(self) -> None:
        command = parts_of(reload=True)["ai_service"].command

        assert command[:2] == ("uvicorn", "ai_service.main:app")
        assert "common" in command
        for data in ("*.yaml", "*.html", "*.txt"):
            assert ("--reload-include", data) in pairwise(command)
        assert "--reload" in command
