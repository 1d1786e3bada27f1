"""Commands for whoever runs Assay: `python -m assay --help`."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from assay import report
from assay.addresses import FORMS, checked_address
from assay.backing_up import back_up
from assay.database_server import databases_to_read
from assay.databases import DATABASES
from assay.errors import InUseError, OperationError, PassphraseError
from assay.moving import Move, move_all, service_at
from assay.reading import is_sqlite, reason
from assay.restoring import restore as restore_backup
from assay.retention import from_the_future, name_for, remove_oldest, remove_unfinished
from assay.settings import Deployment, OperationsSettings, load_deployment, load_operations_settings
from assay.verifying import verify as verify_backup
from common.clock import utc_now
from local_stack.errors import StackError
from local_stack.files import OTHERS

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Move, back up and restore what Assay keeps."
)
_console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)
DEFAULT_FOLDER = Path("var/backups")
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="file whose first line encrypts; otherwise BACKUP_PASSPHRASE does, if it is set"),
]
INCOMPLETE = 3
INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended


@app.callback()
def commands() -> None:
    """Move, back up and restore what Assay keeps."""


@app.command()
def move(
    target: Annotated[str, typer.Option("--to", help="postgresql://... or sqlite:///FILE, empty")],
    source: Annotated[str, typer.Option("--from", help="a service's database; without it: all four")] = "",
) -> None:
    """Move a service's database to another engine; all four when --to names a server without a database."""
    with (
        _plain_failures(),
        report.progress(_console) as step,
        _one(source, target) if source else _all(target) as planned,
    ):
        moved = list(move_all(planned, step=step))
    report.show_moved(_console, moved)


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(help="a folder, where it gets a name, or a file")] = DEFAULT_FOLDER,
    keep: Annotated[int, typer.Option(min=0, help="of this folder's backups keep the newest N; 0: all")] = 0,
    verify: Annotated[bool, typer.Option("--verify", help="make none: read this one and compare it")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Back up databases, keys, models and the archive while everything runs; 3 when archive objects were missing."""
    with _plain_failures():
        settings = load_operations_settings()
        passphrase = _passphrase(settings, passphrase_file)
        if verify:
            report.show_contents(_console, to, verify_backup(to, passphrase=passphrase))
            return
        path = _file_for(to, is_encrypted=passphrase is not None)
        left_over = remove_unfinished(path.parent, utc_now())
        with report.progress(_console) as step:
            made = back_up(load_deployment(settings), path, passphrase=passphrase, step=step)
        # what was made is said before something else may fail
        report.show_backup(_console, made, left_over, is_encrypted=passphrase is not None)
        if keep:
            report.show_future(_errors, from_the_future(path, utc_now()))
            report.show_removed(_console, remove_oldest(path, keep=keep))
    if made.manifest.archive.missing:
        raise typer.Exit(INCOMPLETE)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="a backup")], passphrase_file: PassphraseFile = None
) -> None:
    """Restore a backup into an empty deployment whose services are stopped."""
    with _plain_failures():
        settings = load_operations_settings()
        passphrase = _passphrase(settings, passphrase_file)
        with report.progress(_console) as step:
            deployment = load_deployment(settings)
            restored = restore_backup(file, deployment, passphrase=passphrase, step=step)
    report.show_restored(_console, file, restored, start=_start_of(deployment))


def _start_of(deployment: Deployment) -> str:
    if deployment.servers is not None:
        return "make run-servers"
    if deployment.stack is not None:
        return "make run"
    return "start the services; with Valkey, first: python -m ai_service.rebuild_velocity"


def _file_for(to: Path, *, is_encrypted: bool) -> Path:
    """Return the file that is made: in a folder that is there, or is named like one, it gets a name."""
    if to.is_dir() or not to.suffix:
        return to / name_for(utc_now(), is_encrypted=is_encrypted)
    return to


def _passphrase(settings: OperationsSettings, file: Path | None) -> str | None:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").partition("\n")[0]
        except UnicodeDecodeError:
            raise PassphraseError(f"{file} is no text in UTF-8, so it holds no passphrase.") from None
    secret = settings.backup_passphrase
    return None if secret is None else secret.get_secret_value()


@contextmanager
def _one(source: str, target: str) -> Iterator[list[Move]]:
    checked_address(source, "--from")
    if not checked_address(target, "--to").database:
        raise OperationError("With --from, --to names a database or a file.", details=FORMS)
    yield [Move(service_at(source), source, target)]


@contextmanager
def _all(server: str) -> Iterator[list[Move]]:
    """Plan one move for each service: on the server, its database has the service's name."""
    address = checked_address(server, "--to")
    deployment = load_deployment(load_operations_settings())
    _refuse_running(deployment)
    if address.database or is_sqlite(server):
        raise OperationError(
            "Without --from, --to names a server and no database.",
            details=["Each service's database there has its name: ai_service, user_service, ..."],
        )
    with databases_to_read(deployment) as reachable:
        yield [
            Move(
                database,
                reachable.urls[service],
                address.set(database=service).render_as_string(hide_password=False),
            )
            for service, database in DATABASES.items()
        ]


def _refuse_running(deployment: Deployment) -> None:
    if deployment.is_running and deployment.stack is not None:
        raise InUseError(
            f"A stack runs with the data in {deployment.stack.root}.",
            details=["Stop it first: Ctrl-C where `make run` runs."],
        )


@contextmanager
def _plain_failures() -> Iterator[None]:
    """Say in plain words on standard error what went wrong, and end with a status that cron and scripts understand."""
    os.umask(OTHERS)
    # what services would log on standard output is said here in other words
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _errors.print("Stopped; nothing was kept of what was not finished.")
        raise typer.Exit(INTERRUPTED) from None
    except (OperationError, StackError) as error:
        _fail(str(error), error.details)
    except SQLAlchemyError as error:
        _fail(f"A database could not be used: {reason(error)}", [])
    except OSError as error:
        _fail(f"{error.strerror or type(error).__name__}: {error.filename or 'a file or connection'}", [])


def _fail(message: str, details: "tuple[str, ...] | list[str]") -> None:
    _errors.print(message, style="bold red", markup=False, soft_wrap=True)
    for line in details:
        _errors.print(f"  {line}", markup=False, soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
