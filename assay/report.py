"""What the person at the terminal sees."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from assay.backing_up import Backup
from assay.manifest import Manifest
from assay.moving import Moved, Step
from assay.reading import shown
from assay.restoring import Restored

MOST_NAMED = 20
AFTERWARDS = (
    "end what was ended since: keys revoked, people disabled, sessions ended after the backup are valid again",
    "python -m user_service.rotate_signing_key, if a signing key was retired because somebody else had it",
    "tell callers the moment of the backup: what was answered later is scored anew when they send it again",
)


@contextmanager
def progress(console: Console) -> Iterator[Step]:
    """Yield what shows how many rows of what were done; nothing is shown where nobody looks."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)
        current = ""

        def step(what: str, done: int) -> None:
            nonlocal current
            if what != current:
                current = what
                bar.reset(task, description=what, total=None)
            bar.advance(task, done)

        yield step


def show_moved(console: Console, all_moved: Sequence[Moved]) -> None:
    """Print a line for each table, and what to do next."""
    table = Table(title="Moved", title_justify="left")
    for heading in ("service", "table"):
        table.add_column(heading, no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("read back", no_wrap=True)
    for moved in all_moved:
        words = "was there, equal" if moved.was_there else "equal"
        for name, facts in moved.tables.items():
            table.add_row(moved.move.database.service, name, f"{facts.rows:,}", f"[green]{words}[/green]")
    console.print(table)
    console.print("Now start each service with its new database:")
    for moved in all_moved:
        console.print(
            f"  {moved.move.database.service}: DATABASE_URL={shown(moved.move.target)}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    console.print(
        "The old databases are as they were. Keep them until you have looked at the new ones.", soft_wrap=True
    )


def show_backup(console: Console, made: Backup, left_over: Sequence[Path], *, is_encrypted: bool) -> None:
    """Say what was made, what is not in it, and what was removed of backups that were killed."""
    show_contents(console, made.path, made.manifest)
    for path in left_over:
        console.print(f"Removed {path.name}, which a backup that was killed had left", markup=False)
    if not is_encrypted:
        console.print(
            "It is not encrypted, and holds keys and personal data: guard it, or set BACKUP_PASSPHRASE.",
            style="yellow",
            soft_wrap=True,
        )


def show_removed(console: Console, removed: Sequence[Path]) -> None:
    """Say which backups went because there were newer ones."""
    for path in removed:
        console.print(f"Removed {path.name}, which was older than those to keep", markup=False)


def show_future(console: Console, found: Sequence[Path]) -> None:
    """Warn of backups that stay among the newest until the clock has passed them."""
    for path in found:
        console.print(
            f"{path.name} says that it is from the future, and is kept before others: is the clock right?",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def show_contents(console: Console, path: Path, manifest: Manifest) -> None:
    """Say what is in a backup that was read to its end."""
    table = Table(
        title=f"{path.name}, {path.stat().st_size:,} bytes, of {manifest.made_at[:19]}Z", title_justify="left"
    )
    table.add_column("what", no_wrap=True)
    table.add_column("how much", justify="right", no_wrap=True)
    table.add_column("as it was at", no_wrap=True)
    for service, facts in manifest.services.items():
        rows = sum(each.rows for each in facts.tables.values())
        table.add_row(
            f"{service} ({facts.engine}, {facts.revision})", f"{rows:,} rows", facts.read_at[:19] + "Z"
        )
    table.add_row("archive", f"{manifest.archive.objects:,} objects", "")
    table.add_row("files", f"{len(manifest.files):,}", "")
    console.print(table)
    for what in manifest.not_in_it:
        console.print(f"Not in it  {what}", markup=False, soft_wrap=True)
    for key in manifest.archive.missing[:MOST_NAMED]:
        console.print(
            f"Missing in the archive, or changed: {key}", style="bold red", markup=False, soft_wrap=True
        )
    if len(manifest.archive.missing) > MOST_NAMED:
        console.print(f"... and {len(manifest.archive.missing) - MOST_NAMED} more objects", style="bold red")


def show_restored(console: Console, path: Path, restored: Restored, *, start: str) -> None:
    """Say what is there now, and what to do next."""
    rows = sum(table.rows for facts in restored.manifest.services.values() for table in facts.tables.values())
    say = partial(console.print, markup=False, soft_wrap=True)
    say(f"Restored {path.name}: {rows:,} rows, {restored.manifest.archive.objects:,} objects", style="bold")
    for name in restored.by_hand:
        say(f"Left in the backup: {name} (this deployment has no place for it; tar unpacks it)")
    if restored.advanced.newer_objects or restored.advanced.counters:
        say(
            f"The archive goes on after the backup: {restored.advanced.newer_objects} objects are newer and stay; "
            f"{restored.advanced.counters} counters were moved on behind them."
        )
    say("What was changed after the backup is as it was before. Now:")
    for number, line in enumerate((start, *AFTERWARDS), start=1):
        say(f"  {number}. {line}")
