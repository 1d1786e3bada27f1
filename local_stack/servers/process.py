"""A server program as a child of this process, which ends it when it is asked to end itself."""

import signal
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from local_stack.errors import StackError


class WheelMissingError(StackError):
    """The package that brings the server is not installed."""


class ServerProcess:
    """Runs the program in the foreground, again where that is asked for; SIGTERM is passed on as `stop_signal`."""

    def __init__(self, stop_signal: signal.Signals) -> None:
        self.asked_to_stop = False
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGTERM, self._stop)

    def run(self, command: Sequence[str | Path], *, configuration: str = "") -> int:
        """Run `command` until it ends, with `configuration` on its standard input; return its status."""
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        if self.asked_to_stop:  # meanwhile
            self._process.send_signal(self._stop_signal)
        self._process.communicate(configuration.encode())
        return self._process.returncode

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.asked_to_stop = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._stop_signal)


def installed(package: str, *, instead: str) -> Path:
    """Return the folder of a package; raises `WheelMissingError`, which says which setting is the other way."""
    found = find_spec(package)  # looked up, not imported: importing may look for more than is needed
    if found is None or found.origin is None:
        raise WheelMissingError(
            f"The package {package.replace('_', '-')} is not installed: make setup-dev, or give {instead}=..."
        )
    return Path(found.origin).parent
