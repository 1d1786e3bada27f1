"""The local stack's S3 server: the one that runs, or one that is started for as long as it is needed."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from assay.errors import OperationError
from assay.settings import Deployment
from local_stack.child import Child
from local_stack.files import StackFiles
from local_stack.ownership import RunningStack
from local_stack.parts import Part
from local_stack.settings import LOOPBACK, inherited_environment
from log_service.settings import LogSettings

PART = "object_store"
READY_S = 20.0
STOP_S = 10.0
POLL_S = 0.05


@contextmanager
def reachable_archive(deployment: Deployment) -> Iterator[LogSettings]:
    """Yield where the archive of `deployment` answers; raises `OperationError`."""
    if deployment.stack is None:
        yield deployment.s3
        return
    running = RunningStack.read(deployment.stack) if deployment.is_running else None
    if running is not None and PART in running.parts:
        yield _at(deployment.s3, running.parts[PART].url)
        return
    with _started(deployment.stack) as url:
        yield _at(deployment.s3, url)


def _at(settings: LogSettings, url: str) -> LogSettings:
    return settings.model_copy(update={"s3_endpoint_url": url})


@contextmanager
def _started(files: StackFiles) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    part = Part(
        name=PART,
        summary="",
        command=("localbucket", "--host", LOOPBACK, "--port", str(port), str(files.objects)),
        ports={"OBJECT_STORE_PORT": port},
        ready_path="/",
        page=None,
        environment={},
    )
    files.objects.mkdir(parents=True, exist_ok=True)
    child = Child(part, log_file=files.log(PART), environment=inherited_environment())
    try:
        deadline = time.monotonic() + READY_S
        while not child.is_ready():
            if child.exit_status is not None or time.monotonic() > deadline:
                raise OperationError("The local S3 server did not start.", details=child.last_lines())
            time.sleep(POLL_S)
        yield part.url
    finally:
        child.stop(timeout_s=STOP_S)
