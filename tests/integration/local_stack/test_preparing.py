"""Who starts a stack prepares it alone: the folder is owned before anything is trained."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.child import PROJECT
from local_stack.files import StackFiles
from local_stack.ownership import is_owned
from local_stack.settings import StackSettings
from tests.e2e.stacks import as_environment, stack_settings
from tests.waiting import PATIENCE_S


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return stack_settings(tmp_path / "var")


@pytest.fixture
def environment(settings: StackSettings) -> dict[str, str]:
    return {**os.environ, **as_environment(settings), "GEOIP_PROVIDER": "mock", "SETTINGS_FILE": os.devnull}


@pytest.fixture
def first(environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A first start, with no model yet."""
    with subprocess.Popen(
        [sys.executable, "-m", "local_stack", "run"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        yield process
        process.terminate()
        process.wait(PATIENCE_S)


def start(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Start a stack that cannot run, and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", "local_stack", "run"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


class TestPreparing:
    def test_a_port_that_is_taken_is_said_before_a_model_is_trained(
        self, settings: StackSettings, environment: dict[str, str]
    ) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", settings.ai_service_port))
            other.listen()

            refused = start(environment)

        assert refused.returncode == 1
        assert f"Port {settings.ai_service_port} for ai_service is taken" in refused.stdout
        assert not list(StackFiles(settings.var_dir).models.glob("*"))

    def test_a_second_start_does_not_train_beside_the_first(
        self, first: "subprocess.Popen[bytes]", environment: dict[str, str], tmp_path: Path
    ) -> None:
        files = StackFiles(tmp_path / "var")
        deadline = time.monotonic() + PATIENCE_S
        while not is_owned(files):
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

        second = start(environment)

        assert second.returncode == 1
        assert "already starting" in second.stdout
        assert first.poll() is None
