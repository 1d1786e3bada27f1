"""All parts together: started, watched, stopped. Tests use it to stop, kill and restart single services."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from local_stack import service_secrets
from local_stack.child import Child
from local_stack.errors import NotReadyError, PartEndedError, PortTakenError
from local_stack.files import StackFiles
from local_stack.ownership import RunningPart, RunningStack, owning
from local_stack.parts import Part, stack_parts
from local_stack.servers.databases import provide_databases
from local_stack.settings import LOOPBACK, GeoProvider, StackSettings, inherited_environment
from local_stack.storage import Storage, storage_of

POLL_S = 0.1
Progress = Callable[[str], None]


@dataclass
class Stack:
    """The parts of one stack and their processes."""

    settings: StackSettings
    files: StackFiles
    parts: tuple[Part, ...]
    geoip_provider: GeoProvider
    storage: Storage
    children: dict[str, Child] = field(default_factory=dict)

    def url(self, name: str) -> str:
        """Return where a part answers."""
        return self._part(name).url

    def refuse_taken_ports(self) -> None:
        """Raise `PortTakenError` when something else listens where a part would."""
        for part in self.parts:
            _refuse_taken_ports(part)

    def start(self) -> None:
        """Start every part, once the databases are there; raises `PortTakenError` before anything was started."""
        self.refuse_taken_ports()
        self._start_servers()
        for part in self.parts:
            if part.name not in self.children:
                self.start_part(part.name)
        self._tell_others(ready=False)

    def _start_servers(self) -> None:
        servers = [part.name for part in self.parts if part.server_url]
        for name in servers:
            self.start_part(name)
        self._tell_others(ready=False)
        self._await(servers, lambda _name: None)
        if self.storage.admin_url:
            provide_databases(self.storage.admin_url, self.storage.databases)

    def start_part(self, name: str) -> None:
        """Start one part, also again after it ended."""
        self.children[name] = Child(
            self._part(name), log_file=self.files.log(name), environment=inherited_environment()
        )

    def await_ready(
        self, names: Iterable[str] | None = None, *, on_ready: Progress = lambda _name: None
    ) -> None:
        """Wait until these parts (or all) are ready; raises `PartEndedError` or `NotReadyError`."""
        self._await([part.name for part in self.parts] if names is None else names, on_ready)
        self._tell_others(ready=True)

    def _await(self, names: Iterable[str], on_ready: Progress) -> None:
        waiting = list(names)
        deadline = time.monotonic() + self.settings.ready_timeout_s
        while waiting:
            self.raise_if_ended()
            for name in [name for name in waiting if self.children[name].is_ready()]:
                waiting.remove(name)
                on_ready(name)
            if waiting and time.monotonic() > deadline:
                raise self._not_ready(waiting)
            if waiting:
                time.sleep(POLL_S)

    def raise_if_ended(self) -> None:
        """Raise `PartEndedError` when a part that should run does not."""
        for child in self.children.values():
            if child.exit_status is not None:
                raise PartEndedError(
                    f"{child.part.name} ended with status {child.exit_status}. Its last lines, from {child.log_file}:",
                    details=child.last_lines(),
                )

    def kill(self, name: str) -> None:
        """End one part as `kill -9` does."""
        self.children.pop(name).kill()

    def stop_part(self, name: str) -> bool:
        """Stop one part; returns whether it finished by itself."""
        return self.children.pop(name).stop(timeout_s=self.settings.stop_timeout_s)

    def stop(self, *, on_stop: Progress = lambda _name: None) -> None:
        """Stop all parts, each before those it needs."""
        for part in reversed(self.parts):
            child = self.children.get(part.name)
            if child is None:
                continue
            if child.exit_status is None:
                on_stop(part.name)
            self.stop_part(part.name)

    def _part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    def _not_ready(self, waiting: list[str]) -> NotReadyError:
        child = self.children[waiting[0]]
        return NotReadyError(
            f"Not ready after {self.settings.ready_timeout_s:.0f} s: {', '.join(waiting)}. "
            f"The last lines of {child.part.name}, from {child.log_file}:",
            details=child.last_lines(),
        )

    def _tell_others(self, *, ready: bool) -> None:
        RunningStack(
            pid=os.getpid(),
            ready=ready,
            geoip_provider=self.geoip_provider.value,
            parts={
                name: RunningPart(pid=child.pid, url=child.part.url, ports=child.part.ports)
                for name, child in self.children.items()
            },
            databases=self.storage.databases,
        ).write(self.files)


@contextmanager
def owned_stack(
    settings: StackSettings, *, geoip_provider: GeoProvider, reload: bool = False
) -> Iterator[Stack]:
    """Own the stack's folder and yield a stack that is not started yet; at the end everything is stopped."""
    files = StackFiles(settings.var_dir.resolve())
    with owning(files):
        secrets = service_secrets.load_or_make(files)
        parts = stack_parts(settings, secrets, geoip_provider=geoip_provider, reload=reload)
        stack = Stack(settings, files, parts, geoip_provider, storage_of(settings, secrets))
        try:
            yield stack
        finally:
            stack.stop()


def _refuse_taken_ports(part: Part) -> None:
    for setting, port in part.ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                raise PortTakenError(
                    f"Port {port} for {part.name} is taken. Choose another with {setting}=..., "
                    f"or move the whole stack: PORT_OFFSET=100 make run"
                ) from None
