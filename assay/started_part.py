"""A part of the local stack that runs for as long as a command needs it."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from assay.errors import OperationError
from local_stack.child import Child
from local_stack.files import StackFiles
from local_stack.parts import Part
from local_stack.settings import LOOPBACK, inherited_environment

POLL_S = 0.05


@contextmanager
def started_part(part: Part, files: StackFiles, *, ready_s: float, stop_s: float) -> Iterator[None]:
    """Run `part` while the block runs, which begins once it answers; raises `OperationError`."""
    child = Child(part, log_file=files.log(part.name), environment=inherited_environment())
    try:
        deadline = time.monotonic() + ready_s
        while not child.is_ready():
            if child.exit_status is not None or time.monotonic() > deadline:
                raise OperationError(
                    f"The local stack's {part.name} did not start.", details=child.last_lines()
                )
            time.sleep(POLL_S)
        yield
    finally:
        child.stop(timeout_s=stop_s)


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
