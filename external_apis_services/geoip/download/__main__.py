"""Fetches the location data: `python -m external_apis_services.geoip.download [--directory var/geoip]`."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from external_apis_services.geoip.download.errors import DownloadError
from external_apis_services.geoip.download.fetch import by_hand, provide
from external_apis_services.geoip.download.pins import PACKAGES, Package


def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    """Fetch what is missing and return the exit status: 0, or 1 when a file could not be had."""
    parser = argparse.ArgumentParser(
        prog="python -m external_apis_services.geoip.download", description=__doc__
    )
    parser.add_argument("--directory", type=Path, default=Path("var/geoip"), help="default: %(default)s")
    directory: Path = parser.parse_args(arguments).directory
    screen = console or Console(soft_wrap=True, highlight=False)
    failed = [package for package in PACKAGES if not _provide(package, directory, screen)]
    return 1 if failed else 0


def _provide(package: Package, directory: Path, screen: Console) -> bool:
    try:
        with _progress(package, screen) as shown:
            outcome = provide(package, directory, advance=shown.advance, busy=shown.busy)
    except (DownloadError, OSError) as error:
        screen.print(f"GeoIP {package.purpose}: not there: {error}", style="red", markup=False)
        for line in by_hand(package, directory):
            screen.print(f"  {line}", markup=False)
        return False
    screen.print(f"GeoIP {package.purpose}: {outcome} ({package.name} {package.version})", markup=False)
    return True


class _Shown:
    """A progress bar that says what is going on."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int) -> None:
        self._progress.update(self._task, advance=count)

    @contextmanager
    def busy(self, words: str) -> Iterator[None]:
        self._progress.update(self._task, description=words)
        yield
        self._progress.update(self._task, description="unpacking")


@contextmanager
def _progress(package: Package, screen: Console) -> Iterator[_Shown]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        total = sum(member.size for member in package.members)
        yield _Shown(progress, progress.add_task(f"GeoIP {package.purpose}", total=total))


if __name__ == "__main__":
    sys.exit(main())
