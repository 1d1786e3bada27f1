"""Whole stacks for tests: every service a process, on free ports, with data in a folder of the test."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from local_stack.files import StackFiles
from local_stack.settings import GeoProvider, StackSettings
from local_stack.stack import Stack, owned_stack
from tests.models import save_test_model

PORTS = range(20_000, 32_000)
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


def stack_settings(var_dir: Path) -> StackSettings:
    """Return settings for a stack that meets no other one."""
    ports = dict(zip(PORT_SETTINGS, free_ports(len(PORT_SETTINGS)), strict=True))
    return StackSettings.model_validate({"var_dir": var_dir, **ports})


def as_environment(settings: StackSettings) -> dict[str, str]:
    """Return `settings` as the environment of a command."""
    return {
        name.upper(): str(value)
        for name, value in settings.model_dump(mode="json").items()
        if name in {*PORT_SETTINGS, "var_dir"}
    }


@contextmanager
def running_stack(var_dir: Path) -> Iterator[Stack]:
    """Yield a stack that is ready and scores with the small model of `tests.models`."""
    save_test_model(StackFiles(var_dir).models)
    with owned_stack(stack_settings(var_dir), geoip_provider=GeoProvider.MOCK) as stack:
        stack.start()
        stack.await_ready()
        yield stack
