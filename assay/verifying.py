"""Reads a whole backup and compares it with what it says of itself."""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from assay.archive_objects import FOLDER
from assay.container import Part, read_parts
from assay.digests import RowFacts, TableDigest
from assay.errors import BackupDamagedError
from assay.manifest import FIRST, MANIFEST, Manifest, read_heading, read_manifest

LINES = ".ndjson.gz"
MOST_LINES_BYTES = 1 << 28  # a piece is 16 MB and one row more


@dataclass
class _Found:
    manifest: Manifest | None = None
    tables: dict[tuple[str, str], RowFacts] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)


def verify(path: Path, *, passphrase: str | None) -> Manifest:
    """Return what is in the backup at `path`; raises `BackupDamagedError` and `PassphraseError`."""
    found = _Found()
    parts = read_parts(path, passphrase)
    name, content = next(parts)
    if name != FIRST:
        raise BackupDamagedError("That is no backup of Assay.")
    read_heading(content)
    for (kind, service, table), group in groupby(parts, key=lambda part: sort_of(part[0])):
        if kind == "table":
            digest = TableDigest()
            for line in lines_of(group):
                digest.add(line)
            found.tables[service, table] = digest.facts()
            continue
        for name, content in group:
            found.kinds[kind] += 1
            if name == MANIFEST:
                found.manifest = read_manifest(content)
    return _agreed(found)


def sort_of(name: str) -> tuple[str, str, str]:
    """Return what a part is: "table" with its service and table, "archive", "file" or "manifest"."""
    if name == MANIFEST:
        return "manifest", "", ""
    if name.startswith(FOLDER):
        return "archive", "", ""
    if name.startswith("files/"):
        return "file", "", ""
    service, _, rest = name.partition("/")
    return "table", service, rest.partition(".")[0]


def lines_of(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield the lines of a table's parts; raises `BackupDamagedError`."""
    for name, content in parts:
        unpacker = zlib.decompressobj(31)
        try:
            lines = unpacker.decompress(content, MOST_LINES_BYTES)
        except zlib.error as error:
            raise BackupDamagedError(f"The backup is damaged in {name}.") from error
        if not unpacker.eof or not name.endswith(LINES):
            raise BackupDamagedError(f"The backup is damaged in {name}.")
        yield from lines.splitlines()


def _agreed(found: _Found) -> Manifest:
    manifest = found.manifest
    if manifest is None:
        raise BackupDamagedError("The backup is damaged: it has no manifest.")
    said = {
        (service, name): table.facts
        for service, facts in manifest.services.items()
        for name, table in facts.tables.items()
    }
    if (
        said != found.tables
        or manifest.archive.objects != found.kinds["archive"]
        or len(manifest.files) != found.kinds["file"]
    ):
        raise BackupDamagedError("The backup is damaged: its manifest is of another content.")
    return manifest
