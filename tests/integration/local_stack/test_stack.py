"""Starting and stopping parts as real processes: the mailbox and the object store, which need nothing else."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.child import PROJECT
from local_stack.errors import NotReadyError, PartEndedError, PortTakenError
from local_stack.ownership import RunningStack
from local_stack.settings import GeoProvider, StackSettings
from local_stack.stack import Stack, owned_stack
from tests.e2e.stacks import stack_settings
from tests.waiting import PATIENCE_S

SMALL = ("object_store", "mailbox")


def small_stack(settings: StackSettings) -> Iterator[Stack]:
    with owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        stack.parts = tuple(part for part in stack.parts if part.name in SMALL)
        yield stack


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return stack_settings(tmp_path / "var").model_copy(update={"ready_timeout_s": PATIENCE_S})


@pytest.fixture
def stack(settings: StackSettings) -> Iterator[Stack]:
    yield from small_stack(settings)


def await_end(pid: int) -> None:
    """Wait until a process that is not ours is gone."""
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.05)


class TestStack:
    def test_becomes_ready_and_says_where_it_is(self, stack: Stack) -> None:
        seen: list[str] = []

        stack.start()
        stack.await_ready(on_ready=seen.append)

        assert sorted(seen) == sorted(SMALL)
        running = RunningStack.read(stack.files)
        assert running is not None
        assert running.ready
        assert {name: part.url for name, part in running.parts.items()} == {
            name: stack.url(name) for name in SMALL
        }

    def test_names_the_port_that_is_taken_and_starts_nothing(self, stack: Stack) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", stack.settings.mailbox_smtp_port))
            other.listen()

            with pytest.raises(PortTakenError) as refused:
                stack.start()

        port = stack.settings.mailbox_smtp_port
        assert f"Port {port} for mailbox is taken" in str(refused.value)
        assert "MAILBOX_SMTP_PORT=" in str(refused.value)
        assert "PORT_OFFSET=100 make run" in str(refused.value)
        assert stack.children == {}

    def test_shows_the_last_lines_of_a_part_that_ends(self, stack: Stack) -> None:
        stack.files.mails.write_text("a file where a folder should be")
        stack.start()

        with pytest.raises(PartEndedError, match="mailbox ended with status 1") as ended:
            stack.await_ready()

        assert any("FileExistsError" in line for line in ended.value.details)

    def test_a_part_that_is_never_ready_is_named(self, settings: StackSettings) -> None:
        hasty = settings.model_copy(update={"ready_timeout_s": 0.001})
        for stack in small_stack(hasty):
            stack.start()
            os.kill(stack.children["mailbox"].pid, signal.SIGSTOP)
            try:
                with pytest.raises(NotReadyError, match="mailbox"):
                    stack.await_ready(["mailbox"])
            finally:
                os.kill(stack.children["mailbox"].pid, signal.SIGCONT)

    def test_stops_parts_before_those_they_need(self, stack: Stack) -> None:
        stopped: list[str] = []
        stack.start()
        stack.await_ready()

        stack.stop(on_stop=stopped.append)

        assert stopped == ["mailbox", "object_store"]
        assert stack.children == {}

    def test_a_killed_part_can_be_started_again(self, stack: Stack) -> None:
        stack.start()
        stack.await_ready()
        before = stack.children["mailbox"].pid

        stack.kill("mailbox")
        stack.start_part("mailbox")
        stack.await_ready(["mailbox"])

        assert stack.children["mailbox"].pid != before

    def test_a_part_that_does_not_stop_is_killed_in_the_end(self, settings: StackSettings) -> None:
        hasty = settings.model_copy(update={"stop_timeout_s": 0.2})
        for stack in small_stack(hasty):
            stack.start()
            stack.await_ready()
            pid = stack.children["mailbox"].pid
            os.kill(pid, signal.SIGSTOP)  # it handles SIGTERM, and now never gets to

            finished_by_itself = stack.stop_part("mailbox")

            assert not finished_by_itself
            assert not Path(f"/proc/{pid}").exists()


class TestGuarded:
    def test_a_part_ends_when_its_starter_is_killed(self, settings: StackSettings) -> None:
        script = f"""
import sys
from pathlib import Path
from local_stack.child import Child
from local_stack.parts import Part
from local_stack.settings import inherited_environment
command = ("local_stack.mailbox", "--directory", sys.argv[1], "--port", "{settings.mailbox_port}",
           "--smtp-port", "{settings.mailbox_smtp_port}")
part = Part("mailbox", "", command, {{"MAILBOX_PORT": {settings.mailbox_port}}}, "/ready", None, {{}})
child = Child(part, log_file=Path(sys.argv[1]) / "log", environment=inherited_environment())
while not child.is_ready():
    assert child.exit_status is None, child.last_lines()
print(child.pid, flush=True)
sys.stdin.read()
"""
        with subprocess.Popen(
            [sys.executable, "-c", script, str(settings.var_dir)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as starter:
            assert starter.stdout is not None
            pid = int(starter.stdout.readline())
            starter.kill()

        await_end(pid)
