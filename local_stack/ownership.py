"""Makes sure that one stack uses a folder, and lets others see which."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local_stack.errors import AlreadyRunningError
from local_stack.files import PRIVATE_FOLDER, StackFiles, write_private

LEFT_OVER_WAIT_S = 20.0
POLL_S = 0.1


@dataclass(frozen=True)
class RunningPart:
    """Where a part of a running stack is."""

    pid: int
    url: str
    ports: Mapping[str, int]


@dataclass(frozen=True)
class RunningStack:
    """What a running stack says of itself; `ready` turns true once every part was. `databases` are by service."""

    pid: int
    ready: bool
    geoip_provider: str
    parts: Mapping[str, RunningPart]
    databases: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, files: StackFiles) -> "RunningStack | None":
        """Return what was written last, or None when there is nothing to read."""
        try:
            found = json.loads(files.state.read_text())
        except FileNotFoundError:
            return None
        parts = {name: RunningPart(**part) for name, part in found.pop("parts").items()}
        return cls(**found, parts=parts)

    def write(self, files: StackFiles) -> None:
        """Let others read this."""
        write_private(files.state, json.dumps(asdict(self), indent=2) + "\n")


@contextmanager
def owning(files: StackFiles) -> Iterator[None]:
    """Own the folder while the block runs; raises `AlreadyRunningError`. The kernel lets go when the process ends."""
    files.root.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    with files.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(_where(files)) from None
        _await_left_over(files)
        try:
            yield
        finally:
            files.state.unlink(missing_ok=True)


def is_owned(files: StackFiles) -> bool:
    """Tell whether a stack uses the folder now."""
    if not files.lock.exists():
        return False
    with files.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _where(files: StackFiles) -> str:
    running = RunningStack.read(files)
    if running is None:
        return f"A stack is already starting with the data in {files.root}."
    addresses = ", ".join(f"{name} {part.url}" for name, part in running.parts.items())
    return f"A stack is already running with the data in {files.root} (process {running.pid}): {addresses}"


def _await_left_over(files: StackFiles) -> None:
    """Wait for the parts of a stack that was killed: they stop by themselves, but not at once."""
    left_over = RunningStack.read(files)
    if left_over is None:
        return
    deadline = time.monotonic() + LEFT_OVER_WAIT_S
    while any(_is_alive(part.pid) for part in left_over.parts.values()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    files.state.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
