"""What the repository promises about itself: settings that are written down, containers that would start, short files."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from assay.settings import OperationsSettings
from local_stack.settings import StackSettings
from tests import sizes
from tests.env_example import LOCAL_STACK, OPERATIONS, SETTINGS_BY_SERVICE, SHARED, env_example, shown_default

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = PROJECT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
REQUIRED_VALUE = re.compile(r"\$\{(\w+):\?([^}]+)\}")


def settings_by_group() -> dict[str, dict[str, str]]:
    """Read .env.example as a person would: a heading, then names with values."""
    groups: dict[str, dict[str, str]] = {}
    for line in (PROJECT / ".env.example").read_text().splitlines():
        if line.startswith("# ---- "):
            groups[line.removeprefix("# ---- ")] = {}
        elif re.match(r"#[A-Z]", line):
            name, _, value = line[1:].partition("=")
            groups[next(reversed(groups))][name] = value
    return groups


def defaults_of(settings: type[BaseSettings]) -> dict[str, str]:
    return {name.upper(): shown_default(field) for name, field in settings.model_fields.items()}


class TestEnvExample:
    @pytest.mark.parametrize("service", SETTINGS_BY_SERVICE)
    def test_says_every_setting_of_every_service_with_its_default(self, service: str) -> None:
        groups = settings_by_group()

        assert {**groups[SHARED], **groups[service]} == defaults_of(SETTINGS_BY_SERVICE[service])

    def test_says_every_setting_of_the_local_stack(self) -> None:
        assert settings_by_group()[LOCAL_STACK] == defaults_of(StackSettings)

    def test_says_every_setting_of_the_assay_command(self) -> None:
        assert settings_by_group()[OPERATIONS] == defaults_of(OperationsSettings)

    def test_is_what_make_env_example_writes(self) -> None:
        assert (PROJECT / ".env.example").read_text() == env_example()

    @pytest.mark.parametrize("settings", [*SETTINGS_BY_SERVICE.values(), StackSettings, OperationsSettings])
    def test_every_setting_says_what_it_does(self, settings: type[BaseSettings]) -> None:
        assert [name for name, field in settings.model_fields.items() if not field.description] == []

    def test_a_copy_changes_nothing(self) -> None:
        lines = (PROJECT / ".env.example").read_text().splitlines()

        assert all(not line or line.startswith("#") for line in lines)


class TestCompose:
    def test_follows_the_compose_specification(self) -> None:
        checked = subprocess.run(
            [
                *(sys.executable, "-m", "check_jsonschema"),
                "--builtin-schema",
                "vendor.compose-spec",
                COMPOSE_FILE,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

        assert checked.returncode == 0, checked.stdout + checked.stderr

    @pytest.mark.parametrize("service", SETTINGS_BY_SERVICE)
    def test_every_name_in_the_environment_is_a_setting_of_the_service(self, service: str) -> None:
        known = {name.upper() for name in SETTINGS_BY_SERVICE[service].model_fields}

        assert set(COMPOSE["services"][service]["environment"]) <= known

    @pytest.mark.parametrize("service", SETTINGS_BY_SERVICE)
    def test_a_service_takes_its_environment_in_production(
        self, service: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in COMPOSE["services"][service]["environment"].items():
            monkeypatch.setenv(name, filled_in(value))

        settings = SETTINGS_BY_SERVICE[service]()

        assert settings.environment == "production"
        assert COMPOSE["services"][service]["command"] == ["python", "-m", service]
        assert f"127.0.0.1:{settings.port}:{settings.port}" in network_of(service)["ports"]

    def test_every_secret_has_to_be_given(self) -> None:
        for service in COMPOSE["services"].values():
            for name, value in service.get("environment", {}).items():
                if name.endswith(("SECRET", "PASSPHRASE", "PASSWORD", "SECRET_KEY", "SECRET_ACCESS_KEY")):
                    assert REQUIRED_VALUE.fullmatch(value), name

    @pytest.mark.parametrize("service", SETTINGS_BY_SERVICE)
    def test_the_services_find_each_other(self, service: str) -> None:
        for name, value in COMPOSE["services"][service]["environment"].items():
            if name.endswith("_SERVICE_URL") or name.endswith("_SERVICES_URL"):
                other = name.removesuffix("_URL").lower()
                assert value == f"http://{other}:{COMPOSE['services'][other]['environment']['PORT']}"
                assert other in names_in_the_network(other)

    def test_every_long_running_part_has_a_health_check(self) -> None:
        for name, service in COMPOSE["services"].items():
            assert ("test" in service["healthcheck"]) == (service.get("restart") != "no"), name

    def test_each_image_is_built_by_one_service_that_the_others_wait_for(self) -> None:
        services = COMPOSE["services"]
        builders = {name: service["image"] for name, service in services.items() if "build" in service}
        ours = {name: service for name, service in services.items() if service["image"] == "assay:local"}

        assert list(builders.values()) == ["assay:local"]
        for name, service in ours.items():
            if name not in builders:
                assert service["pull_policy"] == "never", name
                assert {"condition": "service_completed_successfully"} in [
                    service["depends_on"][builder] for builder in builders
                ], name

    def test_mails_go_over_a_loopback_that_no_restart_takes_away(self) -> None:
        services = COMPOSE["services"]
        sender = services["alert_service"]

        assert (sender["environment"]["SMTP_HOST"], sender["environment"]["SMTP_SECURITY"]) == (
            "127.0.0.1",
            "none",
        )
        for service in (sender, services["mailbox"]):
            assert service["network_mode"] == "service:mail_network"
            assert service["depends_on"]["mail_network"]["condition"] == "service_healthy"
        assert services["mail_network"]["command"] == ["sleep", "infinity"]

    def test_no_folder_is_made_by_the_one_who_runs_containers(self) -> None:
        mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
        binds = [mount for mount in mounts if isinstance(mount, dict)]

        assert binds
        assert all(mount["bind"] == {"create_host_path": False} for mount in binds)
        assert all(
            mount.partition(":")[0] in COMPOSE["volumes"] for mount in mounts if isinstance(mount, str)
        )

    def test_no_port_is_open_beyond_this_machine(self) -> None:
        ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]

        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)


def network_of(service: str) -> dict[str, Any]:
    """Return the service whose network `service` uses: its own, unless it says otherwise."""
    chosen: str = COMPOSE["services"][service].get("network_mode", f"service:{service}")
    found: dict[str, Any] = COMPOSE["services"][chosen.removeprefix("service:")]
    return found


def names_in_the_network(service: str) -> set[str]:
    """Return the names under which the other containers find `service`."""
    network = network_of(service)
    if network is COMPOSE["services"][service]:
        return {service}
    return set(network["networks"]["default"]["aliases"])


def filled_in(value: str) -> str:
    """Fill in what a person has to give, and take the defaults of the rest."""
    given = REQUIRED_VALUE.sub("0123456789abcdef0123456789abcdef", value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", given)


class TestMakefile:
    def test_help_lists_every_target(self) -> None:
        text = (PROJECT / "Makefile").read_text()
        internal = {"compose-tls", "setup", "setup-dev", "venv"}

        listed = subprocess.run(
            [_which("make"), "help"], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=30
        ).stdout

        targets = set(re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE)) - internal
        assert {
            "run",
            "dev",
            "demo",
            "test",
            "check",
            "format",
            "lock",
            "openapi",
            "model",
            "geoip",
            "clean",
        } <= targets
        assert set(re.findall(r"^  (\S+)", listed, re.MULTILINE)) == targets

    @pytest.mark.parametrize(
        ("more", "arguments"), [([], ""), (["EMAIL=o@assay.example"], '--email "o@assay.example"')]
    )
    def test_operator_asks_for_whom_it_is_told(self, more: list[str], arguments: str) -> None:
        shown = subprocess.run(
            [_which("make"), "--dry-run", "operator", *more],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout

        assert (
            shown.splitlines()[-1].strip() == f".venv/bin/python -m local_stack operator {arguments}".strip()
        )

    def test_makes_the_secrets_of_compose_once_and_for_this_user_alone(self, tmp_path: Path) -> None:
        (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
        made = tmp_path / "var" / "compose.env"

        def compose_env() -> str:
            subprocess.run(
                [_which("make"), "-C", tmp_path, "compose-env"], capture_output=True, check=True, timeout=30
            )
            return made.read_text()

        first = compose_env()
        certificate = (tmp_path / "var" / "compose-tls" / "server.crt").read_bytes()
        second = compose_env()

        secrets = dict(line.split("=") for line in first.splitlines())
        assert set(secrets) == {name for name, _ in REQUIRED_VALUE.findall(COMPOSE_FILE.read_text())}
        assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in secrets.values())
        assert len(set(secrets.values())) == len(secrets)
        assert second == first
        assert (tmp_path / "var" / "compose-tls" / "server.crt").read_bytes() == certificate
        assert made.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
        tls = tmp_path / "var" / "compose-tls"
        modes = {path.name: path.stat().st_mode & 0o777 for path in tls.iterdir()}
        assert modes == {"ca.crt": 0o644, "ca.key": 0o600, "server.crt": 0o644, "server.key": 0o600}
        assert [path.name for path in (tmp_path / "var").glob(".compose*")] == []
        assert (tmp_path / "var" / "geoip").stat().st_mode & 0o777 == 0o755

    def test_says_what_to_install_when_there_is_no_python(self, tmp_path: Path) -> None:
        for tool in ("bash", "make", "cmp", "cat"):
            (tmp_path / tool).symlink_to(_which(tool))
        (tmp_path / "Makefile").write_text(
            (PROJECT / "Makefile").read_text().replace("SHELL := /bin/bash", f"SHELL := {tmp_path}/bash")
        )

        failed = subprocess.run(
            [tmp_path / "make", "-C", tmp_path, "setup"],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

        assert failed.returncode != 0
        assert "apt install python3 python3-venv" in failed.stderr


def _which(tool: str) -> Path:
    folders = os.environ["PATH"].split(os.pathsep)
    return next(path for folder in folders if (path := Path(folder) / tool).exists())


class TestLockFiles:
    @pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-npm.txt"])
    def test_pin_everything_by_hash_and_name_no_index(self, name: str) -> None:
        text = (PROJECT / name).read_text()
        pins = re.findall(r"^([a-zA-Z0-9][^\s=]*)==\S+ .*\\\n    --hash=sha256:", text, re.MULTILINE)

        assert len(pins) == len(re.findall(r"^[a-zA-Z0-9]", text, re.MULTILINE)) > 0
        assert "://" not in text
        assert "index-url" not in text

    def test_tests_run_with_what_is_shipped(self) -> None:
        shipped, tested = (
            dict(re.findall(r"^(\S+?)==(\S+)", (PROJECT / name).read_text(), re.MULTILINE))
            for name in ("requirements.txt", "requirements-dev.txt")
        )

        assert {name: tested.get(name) for name in shipped} == shipped


class TestSizes:
    def test_a_long_file_is_named(self) -> None:
        assert list(sizes.breaches("long.py", "x = 1\n" * 301)) == ["long.py: 301 lines, more than 300"]

    def test_a_long_function_is_named_and_its_docstring_is_not_counted(self) -> None:
        docstring = '    """Say\n    it\n    all."""\n'
        fits = "def fits():\n" + docstring + "    x = 1\n" * 40
        long = "async def long():\n" + docstring + "    x = 1\n" * 41

        assert list(sizes.breaches("f.py", fits)) == []
        assert list(sizes.breaches("f.py", long)) == ["f.py:1: long has 41 lines, more than 40"]

    def test_a_reason_near_the_top_is_taken(self) -> None:
        source = '"""Tables."""\n\n# This is over the house limit: one table a currency\n' + "x = 1\n" * 400

        assert list(sizes.breaches("tables.py", source)) == []
