"""The stack on either engine, and the `assay` command as an operator runs it beside it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from assay.databases import DATABASES
from common.ids import new_id
from local_stack.child import PROJECT
from local_stack.files import StackFiles
from local_stack.parts import ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY
from local_stack.settings import GeoProvider
from local_stack.stack import Stack, owned_stack
from tests.e2e.stacks import as_environment, stack_settings, unhurried
from tests.faults.sources import Sources
from tests.models import save_test_model
from tests.postgres import PostgresServer

COMMAND_TIMEOUT_S = 300


@dataclass(frozen=True)
class Place:
    """A folder for a stack, and the addresses of its databases where they are not files in it."""

    var: Path
    urls: Mapping[str, str]

    @property
    def files(self) -> StackFiles:
        """Return where things are."""
        return StackFiles(self.var)

    def url(self, service: str) -> str:
        """Return the address of a service's database."""
        return self.urls.get(service, f"sqlite:///{self.files.database(service)}")

    def sources(self, stack: Stack) -> Sources:
        """Return where the checker looks."""
        return Sources(
            database_url=self.url("ai_service"),
            s3_endpoint_url=stack.url("object_store"),
            s3_bucket=BUCKET,
            mailbox=self.files.mails,
            alert_database_url=self.url("alert_service"),
            log_database_url=self.url("log_service"),
            user_database_url=self.url("user_service"),
        )


@contextmanager
def databases_on(server: PostgresServer) -> Iterator[dict[str, str]]:
    """Yield the addresses of an empty database for each service."""
    names = {service: new_id(service) for service in DATABASES}
    for name in names.values():
        server.create_database(name)
    yield {service: server.url(name) for service, name in names.items()}
    for name in names.values():
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def owned(place: Place) -> Iterator[Stack]:
    """Yield the stack of `place`; nothing of it is started yet."""
    with unhurried(), owned_stack(stack_settings(place.var), geoip_provider=GeoProvider.MOCK) as stack:
        stack.parts = tuple(
            replace(part, environment={**part.environment, "DATABASE_URL": place.url(part.name)})
            if part.name in DATABASES
            else part
            for part in stack.parts
        )
        yield stack


@contextmanager
def started(place: Place) -> Iterator[Stack]:
    """Yield the stack of `place` when it is ready."""
    with owned(place) as stack:
        stack.start()
        stack.await_ready()
        yield stack


@contextmanager
def first_started(place: Place) -> Iterator[Stack]:
    """Yield a new stack with the small model of the tests."""
    save_test_model(place.files.models)
    with started(place) as stack:
        yield stack


def assay(*command: str, place: Place, stack: Stack | None = None, **environment: str) -> str:
    """Run `python -m assay ...` for `place`, as the operator of a server does where its databases are on one."""
    told = as_environment(stack.settings) if stack else {"VAR_DIR": str(place.var)}
    if place.urls:
        assert stack is not None
        told = {f"{service.upper()}_DATABASE_URL": place.url(service) for service in DATABASES} | {
            "S3_ENDPOINT_URL": stack.url("object_store"),
            "S3_BUCKET": BUCKET,
            "S3_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "S3_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "S3_ADDRESSING_STYLE": "path",
            "S3_CREATE_BUCKET": "true",
            "MODELS_DIR": str(place.files.models),
        }
    done = subprocess.run(
        [sys.executable, "-m", "assay", *command],
        cwd=PROJECT,
        env={**os.environ, "no_proxy": "*", **told, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def restored(backup: Path, new: Place, *, secrets_of: Place) -> None:
    """Restore `backup` to `new` with the command; on a server, the operator brings the secrets and an S3 server."""
    if not new.urls:
        assay("restore", str(backup), place=new)
        return
    new.var.mkdir(mode=0o700)
    shutil.copy(secrets_of.files.secrets, new.files.secrets)
    with owned(new) as stack:
        stack.start_part("object_store")
        stack.await_ready(["object_store"])
        assay("restore", str(backup), place=new, stack=stack)
