"""The commands of the local stack: `python -m local_stack --help`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from local_stack import report
from local_stack.demo import PAYMENTS, run_demo
from local_stack.errors import StackError
from local_stack.files import OTHERS, StackFiles
from local_stack.operators import FIRST_OPERATOR, operator_token
from local_stack.preparation import provide_locations, provide_model
from local_stack.running import run_in_foreground, stop_on_signals
from local_stack.settings import StackSettings, load_stack_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Everything on one machine.")
_console = Console(highlight=False)
INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended


@app.command()
def run() -> None:
    """Start all services and stay until Ctrl-C."""
    with _plain_failures():
        run_in_foreground(_settings(), _console, reload=False)


@app.command()
def dev() -> None:
    """Start all services, each again when its code changes, and stay until Ctrl-C."""
    with _plain_failures():
        run_in_foreground(_settings(), _console, reload=True)


@app.command()
def demo(
    payments: Annotated[int, typer.Option(min=1, help="how many simulated payments are sent")] = PAYMENTS,
) -> None:
    """Send simulated payments through the real services and count what arrived; 1 when anything is missing."""
    with _plain_failures(status_when_asked_to_stop=INTERRUPTED):
        found = run_demo(_settings(), _console, payments=payments)
        sys.stdout.write(report.tally_line(found) + "\n")
        raise typer.Exit(0 if found.holds else 1)


@app.command()
def operator(
    email: Annotated[str, typer.Option(help="who it is; made if need be")] = FIRST_OPERATOR,
) -> None:
    """Print an access token of an operator of the running stack's platform."""
    with _plain_failures(
        status_when_asked_to_stop=INTERRUPTED, console=Console(stderr=True, highlight=False)
    ):
        sys.stdout.write(operator_token(_settings(), email=email) + "\n")


@app.command()
def model() -> None:
    """Train the fraud model, unless there is one that fits."""
    with _plain_failures(status_when_asked_to_stop=INTERRUPTED):
        provide_model(StackFiles(_settings().var_dir.resolve()))


@app.command()
def geoip() -> None:
    """Fetch the pinned location data, unless it is there."""
    with _plain_failures(status_when_asked_to_stop=INTERRUPTED):
        provide_locations(StackFiles(_settings().var_dir.resolve()))


def _settings() -> StackSettings:
    try:
        return load_stack_settings()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        raise StackError("These settings are wrong:", details=lines) from None


@contextmanager
def _plain_failures(*, status_when_asked_to_stop: int = 0, console: Console = _console) -> Iterator[None]:
    """Say in plain words what went wrong; being asked to stop is no failure of what would run for ever."""
    os.umask(OTHERS)
    stop_on_signals()
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(status_when_asked_to_stop) from None
    except StackError as error:
        console.print(str(error), style="bold red", markup=False, soft_wrap=True)
        for line in error.details:
            console.print(f"  {line}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
