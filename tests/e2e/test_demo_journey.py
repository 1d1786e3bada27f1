"""A stranger's first minutes: `make demo`, `make run`, a look around, Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import pytest

from local_stack.child import PROJECT
from local_stack.files import StackFiles
from local_stack.ownership import RunningStack, is_owned
from local_stack.settings import StackSettings, Stores
from tests.e2e.stacks import BOTH_SETS, UNHURRIED_MS, as_environment, stack_settings
from tests.waiting import PATIENCE_S

COMMAND_TIMEOUT_S = 600
LAST_WORDS_OF_THE_STATUS = "Ctrl-C stops everything"
PAYMENTS = 1000
OUTCOMES = ("approve", "challenge", "review", "decline")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> StackSettings:
    """One folder for the whole journey, in a path with a space; a model from few customers is quick to train."""
    chosen = stack_settings(tmp_path_factory.mktemp("a stranger's") / "var", stores=stores)
    models = StackFiles(chosen.var_dir).models
    subprocess.run(
        [
            *(sys.executable, "-m", "ai_service.ml.training", "--models-dir", str(models)),
            *("--customers", "500", "--days", "20"),
        ],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    return chosen


def command(settings: StackSettings, *arguments: str, **more: str) -> tuple[Sequence[str], dict[str, str]]:
    chosen = {
        **as_environment(settings),
        "GEOIP_PROVIDER": "mock",
        "COLUMNS": "120",
        "DEADLINE_MS": UNHURRIED_MS,
        **more,
    }
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"} | chosen
    return [sys.executable, "-m", "local_stack", *arguments], environment


def run(settings: StackSettings, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    line, environment = command(settings, *arguments, **more)
    return subprocess.run(
        line,
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )


@contextmanager
def running(settings: StackSettings) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Yield `make run`'s process and what it printed until it was ready; it is stopped at the end if it still runs."""
    line, environment = command(settings, "run")
    with subprocess.Popen(
        line, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        printed = []
        for output in process.stdout:
            printed.append(output)
            if LAST_WORDS_OF_THE_STATUS in output:
                break
        try:
            assert LAST_WORDS_OF_THE_STATUS in printed[-1], "".join(printed)
            yield process, "".join(printed)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.stdout.read()
            process.wait(COMMAND_TIMEOUT_S)


def parts(settings: StackSettings) -> RunningStack:
    found = RunningStack.read(StackFiles(settings.var_dir))
    assert found is not None
    return found


def is_listening(url: str) -> bool:
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        try:
            client.get(url)
        except httpx.TransportError:
            return False
    return True


@BOTH_SETS
class TestDemo:
    def test_everything_arrives_once_and_every_outcome_occurs(self, settings: StackSettings) -> None:
        nowhere = "http://127.0.0.1:9"  # a proxy that answers nobody: parts talk without one
        finished = run(settings, "demo", "--payments", str(PAYMENTS), HTTP_PROXY=nowhere, http_proxy=nowhere)

        assert finished.returncode == 0, finished.stdout + finished.stderr
        found = json.loads(finished.stdout.splitlines()[-1])
        assert found["acknowledged"] == found["saved"] == found["archived"] == PAYMENTS
        assert found["alerts_expected"] == found["alerts_delivered"] > 0
        assert (found["lost"], found["duplicates"]) == (0, 0)
        for outcome in OUTCOMES:
            assert re.search(rf"│ {outcome} +│ +[1-9]", finished.stdout), finished.stdout
        assert re.search(r"p50 [0-9.]+ ms, p95 [0-9.]+ ms, p99 [0-9.]+ ms", finished.stdout)

    def test_it_stops_what_it_started(self, settings: StackSettings) -> None:
        files = StackFiles(settings.var_dir)

        assert not is_owned(files)
        assert not files.state.exists()
        assert not is_listening(f"http://127.0.0.1:{settings.ai_service_port}/health")


@BOTH_SETS
class TestRun:
    def test_shows_where_everything_is_and_a_login_that_works(self, settings: StackSettings) -> None:
        with running(settings) as (process, printed):
            for part in parts(settings).parts.values():
                assert part.url in printed
            commands = printed[printed.index("TOKEN=$(") : printed.index(LAST_WORDS_OF_THE_STATUS)]
            shown = subprocess.run(
                ["bash", "-c", commands],  # noqa: S607 - what a person would do
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            files = StackFiles(settings.var_dir)
            databases = [*files.root.glob("*.db"), *files.servers.glob("*"), *files.servers.glob("*/*")]
            process.send_signal(signal.SIGTERM)
            assert process.wait(COMMAND_TIMEOUT_S) == 0

        paths = [path for path in (files.login, files.secrets, *databases) if path.exists()]
        scored = json.loads(shown.stdout)
        assert scored["outcome"] in OUTCOMES
        assert re.fullmatch(r"first-\d+", scored["transaction_id"])  # one that was not used before
        assert len(paths) > 2
        assert {path.stat().st_mode & 0o077 for path in paths} == {0}
        assert not is_owned(StackFiles(settings.var_dir))

    def test_no_part_outlives_a_stack_that_is_killed(self, settings: StackSettings) -> None:
        with running(settings) as (process, _):
            process.kill()
            process.wait(COMMAND_TIMEOUT_S)

        with running(settings) as (second, printed):
            second.send_signal(signal.SIGINT)
            assert second.wait(COMMAND_TIMEOUT_S) == 0

        assert LAST_WORDS_OF_THE_STATUS in printed


@pytest.mark.parametrize("stores", [Stores.EMBEDDED], scope="module")
class TestRunsBesideOthers:
    """How the stack handles its processes: the same code whatever they are."""

    def test_a_second_one_says_that_it_runs_already_and_a_demo_uses_it(self, settings: StackSettings) -> None:
        with running(settings) as (process, _):
            second = run(settings, "run")
            demo = run(settings, "demo", "--payments", "50")
            still_running = process.poll() is None

        assert second.returncode == 1
        assert "already running" in second.stdout
        assert f"http://127.0.0.1:{settings.ai_service_port}" in second.stdout
        assert demo.returncode == 0, demo.stdout
        assert "Using the stack that runs already" in demo.stdout
        assert json.loads(demo.stdout.splitlines()[-1])["archived"] == 50
        assert still_running
        assert process.returncode == 0

    def test_the_login_stays_the_same(self, settings: StackSettings) -> None:
        before = StackFiles(settings.var_dir).login.read_text()

        with running(settings) as (_, printed):
            assert json.loads(before)["email"] in printed

        assert StackFiles(settings.var_dir).login.read_text() == before

    def test_says_which_part_ended_and_stops_everything(self, settings: StackSettings) -> None:
        with running(settings) as (process, _):
            found = parts(settings)
            os.kill(found.parts["log_service"].pid, signal.SIGKILL)
            assert process.stdout is not None
            rest = process.stdout.read()
            status = process.wait(COMMAND_TIMEOUT_S)

        assert status == 1
        assert "log_service ended with status -9" in rest
        assert not any(is_listening(part.url) for part in found.parts.values())
