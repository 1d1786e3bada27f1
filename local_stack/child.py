"""One part as a running process."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from local_stack.files import OTHERS
from local_stack.parts import Part
from local_stack.probing import is_ready

PROJECT = Path(__file__).resolve().parents[1]
LAST_LINES = 15


class Child:
    """A part's process, started at once. It ends with the process that made this object (see `guarded`)."""

    def __init__(self, part: Part, *, log_file: Path, environment: Mapping[str, str]) -> None:
        self.part = part
        self.log_file = log_file
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as log:
            self._log_start = log.tell()
            # a process group of its own: Ctrl-C reaches the stack alone, which then stops its parts in order
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local_stack.guarded", *part.command],
                cwd=PROJECT,
                env={**environment, **part.environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                umask=OTHERS,
            )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._process.poll()

    def is_ready(self) -> bool:
        """Ask the part whether it can do its work."""
        return is_ready(self.part)

    def stop(self, *, timeout_s: float) -> bool:
        """Ask the process to finish, and wait; kill it after `timeout_s`. Returns whether it finished by itself."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self._close()
        return True

    def kill(self) -> None:
        """End the process and what it started, as `kill -9` does."""
        if self.exit_status is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._close()

    def last_lines(self) -> list[str]:
        """Return the end of what this process printed."""
        with self.log_file.open(errors="replace") as log:
            log.seek(self._log_start)
            return [line.rstrip() for line in deque(log, maxlen=LAST_LINES)]

    def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
