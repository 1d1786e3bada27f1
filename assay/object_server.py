"""The local stack's S3 server: the one that runs, or one that is started for as long as it is needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from assay.settings import Deployment
from assay.started_part import free_port, started_part
from local_stack.files import StackFiles
from local_stack.ownership import RunningStack
from local_stack.parts import Part
from local_stack.settings import LOOPBACK
from log_service.settings import LogSettings

PART = "object_store"
READY_S = 20.0
STOP_S = 10.0


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
    port = free_port()
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
    with started_part(part, files, ready_s=READY_S, stop_s=STOP_S):
        yield part.url
