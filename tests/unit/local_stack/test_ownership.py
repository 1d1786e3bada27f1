"""One stack uses a folder at a time, and others can see which."""

import os
from pathlib import Path

import pytest

from local_stack.errors import AlreadyRunningError
from local_stack.files import StackFiles
from local_stack.ownership import RunningPart, RunningStack, is_owned, owning

NOBODYS_PID = 2**22 + 1  # above what Linux gives out


def make_running(*, ready: bool = True, pid: int | None = None) -> RunningStack:
    part = RunningPart(pid=pid or os.getpid(), url="http://127.0.0.1:8000", ports={"AI_SERVICE_PORT": 8000})
    return RunningStack(pid=4711, ready=ready, geoip_provider="mock", parts={"ai_service": part})


class TestOwning:
    def test_a_folder_nobody_used_is_free(self, tmp_path: Path) -> None:
        assert not is_owned(StackFiles(tmp_path / "new"))

    def test_a_folder_it_makes_is_for_this_user_alone(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path / "new")

        with owning(files):
            assert files.root.stat().st_mode & 0o777 == 0o700

    def test_a_second_stack_is_refused_and_told_where_the_first_is(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)
        with owning(files):
            make_running().write(files)

            with (
                pytest.raises(AlreadyRunningError, match=r"process 4711.*ai_service http://127.0.0.1:8000"),
                owning(files),
            ):
                pass

            assert is_owned(files)

    def test_a_second_stack_is_refused_while_the_first_is_starting(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)

        with owning(files), pytest.raises(AlreadyRunningError, match="already starting"), owning(files):
            pass

    def test_the_folder_is_free_again_afterwards(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)

        with owning(files):
            make_running().write(files)

        assert not is_owned(files)
        assert RunningStack.read(files) is None
        with owning(files):
            assert is_owned(files)

    def test_what_a_killed_stack_left_is_forgotten_once_its_parts_are_gone(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)
        make_running(pid=NOBODYS_PID).write(files)

        with owning(files):
            assert RunningStack.read(files) is None


class TestRunningStack:
    def test_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)
        running = make_running(ready=False)

        running.write(files)

        assert RunningStack.read(files) == running
