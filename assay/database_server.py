"""The local stack's PostgreSQL, for commands that come while the stack is stopped.

It is started on a port that is free, with the data in `VAR_DIR`, which is owned meanwhile so that no stack starts on it.
One that was given by `POSTGRESQL_URL` is used where it is.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from assay.databases import DATABASES
from assay.errors import OperationError
from assay.settings import Deployment
from assay.started_part import free_port, started_part
from local_stack import service_secrets
from local_stack.files import StackFiles
from local_stack.ownership import owning
from local_stack.parts import stack_parts
from local_stack.servers.databases import provide_databases
from local_stack.settings import GeoProvider, StackSettings
from local_stack.storage import Storage, storage_of

PART = "postgresql"
STOP_S = 60.0
PASSWORDS = ("POSTGRESQL_PASSWORD", *(f"{service.upper()}_DATABASE_PASSWORD" for service in DATABASES))


@contextmanager
def databases_to_read(deployment: Deployment) -> Iterator[Deployment]:
    """Yield `deployment` with databases that answer; raises `OperationError`, `StackError`."""
    if deployment.servers is None or deployment.stack is None:
        yield deployment
        return
    files = deployment.stack
    if deployment.servers.postgresql_url is None and not (files.servers / PART).is_dir():
        raise OperationError(
            f"There is no PostgreSQL in {files.servers}.",
            details=["Give POSTGRESQL_URL if the stack was started with it, or STORES=embedded if without."],
        )
    with owning(files), _answering(deployment.servers, files, service_secrets.kept(files)) as storage:
        yield replace(deployment, urls=storage.databases, servers=None)


@contextmanager
def databases_to_fill(deployment: Deployment, secrets: Mapping[str, str]) -> Iterator[Deployment]:
    """Yield `deployment`, whose folder is owned, with databases that answer; those that are missing are made.

    A PostgreSQL that was made for it does not stay when the block fails: `secrets` are kept nowhere else by then.
    """
    if deployment.servers is None or deployment.stack is None:
        yield deployment
        return
    data = deployment.stack.servers / PART
    with ExitStack() as unless_done:
        if not data.exists():
            unless_done.callback(shutil.rmtree, data, ignore_errors=True)
        with _answering(deployment.servers, deployment.stack, secrets) as storage:
            provide_databases(storage.admin_url, storage.databases)
            yield replace(deployment, urls=storage.databases, servers=None)
        unless_done.pop_all()


@contextmanager
def _answering(settings: StackSettings, files: StackFiles, secrets: Mapping[str, str]) -> Iterator[Storage]:
    _refuse_missing(secrets, files)
    if settings.postgresql_url is not None:
        yield storage_of(settings, secrets)
        return
    here = settings.model_copy(update={"postgresql_port": free_port(), "port_offset": 0})
    parts = stack_parts(here, secrets, geoip_provider=GeoProvider.MOCK)
    server = next(part for part in parts if part.name == PART)
    with started_part(server, files, ready_s=settings.ready_timeout_s, stop_s=STOP_S):
        yield storage_of(here, secrets)


def _refuse_missing(secrets: Mapping[str, str], files: StackFiles) -> None:
    missing = [name for name in PASSWORDS if not secrets.get(name)]
    if missing:
        raise OperationError(
            f"The passwords of the stack's PostgreSQL are missing in {files.secrets}.", details=missing
        )
