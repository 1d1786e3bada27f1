"""Runs the stack in the foreground: prepares, starts, shows, watches, stops."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from local_stack import report
from local_stack.accounts import kept_login
from local_stack.preparation import prepare
from local_stack.settings import GeoProvider, StackSettings
from local_stack.stack import Stack, owned_stack

WATCH_S = 0.5


def run_in_foreground(settings: StackSettings, console: Console, *, reload: bool) -> None:
    """Run until Ctrl-C or SIGTERM; raises `StackError` when it cannot start or a part ends."""
    provider = settings.geoip_provider or GeoProvider.DATABASE
    with started_stack(settings, console, geoip_provider=provider, reload=reload) as stack:
        login = kept_login(stack.url("user_service"), stack.files)
        report.show_stack(console, stack, login)
        while True:
            stack.raise_if_ended()
            time.sleep(WATCH_S)


@contextmanager
def started_stack(
    settings: StackSettings, console: Console, *, geoip_provider: GeoProvider, reload: bool = False
) -> Iterator[Stack]:
    """Yield a stack whose every part is ready, and stop it at the end, in order, whatever happened."""
    with owned_stack(settings, geoip_provider=geoip_provider, reload=reload) as stack:
        try:
            stack.refuse_taken_ports()  # before minutes are spent on a model
            prepare(stack.files, geoip_provider=geoip_provider)
            _start(stack, console)
            yield stack
        finally:
            with _signals_ignored():
                stack.stop(on_stop=lambda name: console.print(f"Stopping {name}", style="dim"))


def _start(stack: Stack, console: Console) -> None:
    waiting = [part.name for part in stack.parts]
    with console.status("") as status:

        def show(name: str | None = None) -> None:
            if name:
                waiting.remove(name)
            status.update(f"Starting: waiting for {', '.join(waiting)}")

        stack.start()
        show()
        stack.await_ready(on_ready=show)


def stop_on_signals() -> None:
    """Let SIGTERM and a closed terminal do what Ctrl-C does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Finish stopping even when asked to stop a second time: every wait in it is bounded."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
