"""Whole stacks for tests: every service a process, on free ports, with data in a folder of the test."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from local_stack.accounts import Login
from local_stack.child import PROJECT
from local_stack.evidence import Evidence
from local_stack.files import StackFiles
from local_stack.settings import GeoProvider, StackSettings, Stores, inherited_environment
from local_stack.stack import Stack, owned_stack
from tests.models import save_test_model

COMMAND_TIMEOUT_S = 180
UNHURRIED_MS = "5000"
PORTS_EACH = 3_000
# processes that run tests side by side take theirs from ranges of their own: a port is free until somebody binds it
FIRST_PORT = 20_000 + PORTS_EACH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = range(FIRST_PORT, FIRST_PORT + PORTS_EACH)
BOTH_SETS = pytest.mark.parametrize(
    "stores", [Stores.EMBEDDED, Stores.SERVERS], ids=["embedded", "postgresql+valkey"], scope="module"
)
PORT_SETTINGS = [name for name in StackSettings.model_fields if name.endswith("_port")]


def free_ports(count: int) -> list[int]:
    """Return that many different ports that were free a moment ago.

    They lie below those that the kernel gives to outgoing connections, so that none is taken while its part restarts.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


def stack_settings(var_dir: Path, *, stores: Stores = Stores.EMBEDDED, ai_workers: int = 1) -> StackSettings:
    """Return settings for a stack that meets no other one."""
    ports = dict(zip(PORT_SETTINGS, free_ports(len(PORT_SETTINGS)), strict=True))
    chosen = {"var_dir": var_dir, "stores": stores, "ai_workers": ai_workers, **ports}
    return StackSettings.model_validate(chosen)


def as_environment(settings: StackSettings) -> dict[str, str]:
    """Return `settings` as the environment of a command."""
    return {
        name.upper(): str(value)
        for name, value in settings.model_dump(mode="json").items()
        if name in {*PORT_SETTINGS, "var_dir", "stores"}
    }


@contextmanager
def unhurried() -> Iterator[None]:
    """Let payers of the stacks inside wait long: what is answered is looked at, on however busy a machine."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DEADLINE_MS", UNHURRIED_MS)
        yield


@contextmanager
def running_stack(var_dir: Path, *, stores: Stores = Stores.EMBEDDED, ai_workers: int = 1) -> Iterator[Stack]:
    """Yield a stack that is ready and scores with the small model of `tests.models`."""
    save_test_model(StackFiles(var_dir).models)
    settings = stack_settings(var_dir, stores=stores, ai_workers=ai_workers)
    with owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        stack.start()
        stack.await_ready()
        yield stack


@contextmanager
def stack_as_everybody_has_it(folder: Path) -> Iterator[Stack]:
    """Yield such a stack whose services ask who may get in as often as they do by default: what is measured is that."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("ACCESS_POLL_S", raising=False)
        with running_stack(folder / "var") as stack:
            yield stack


def stack_evidence(stack: Stack, login: Login) -> Evidence:
    """Return what looks for the things of `login`'s institution, in whichever database they are."""
    store, database = stack.url("object_store"), stack.storage.databases["ai_service"]
    return Evidence(stack.files, login, object_store_url=store, database_url=database)


def run_on_machine(stack: Stack, module: str, *command: str) -> str:
    """Run `python -m module ...` as an operator does beside user_service; return what it printed."""
    part = next(part for part in stack.parts if part.name == "user_service")
    done = subprocess.run(
        [sys.executable, "-m", module, *command],
        cwd=PROJECT,
        env={**os.environ, **inherited_environment(), **part.environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    return done.stdout
