"""Makes a backup while everything runs: the story of `assay backup`.

Each database is read as it was at one moment, senders before receivers, the archive's objects last: only those that
log_service's copy knows as stored. What a sender had not told yet is in its copied outbox and is told again after a restore;
receivers ignore what they know. A record that log_service had accepted is in its copy with its body, or in an object.
"""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.archive_objects import open_archive, stored_objects
from assay.container import PartsWriter, creating
from assay.database_server import databases_to_read
from assay.databases import DATABASES, ServiceDatabase
from assay.digests import TableDigest
from assay.errors import OperationError
from assay.manifest import (
    FIRST,
    FORMAT,
    MANIFEST,
    PRODUCT_VERSION,
    ArchiveFacts,
    Heading,
    Manifest,
    ServiceFacts,
    TableFacts,
    as_bytes,
)
from assay.moving import Step
from assay.object_server import reachable_archive
from assay.reading import Snapshot, codec_of, is_sqlite, snapshot_of
from assay.settings import OPERATORS_OWN, Deployment
from common.clock import utc_now

PART_BYTES = 1 << 24  # of lines, before they are compressed; what is in memory at once
LEVEL = 4
ARCHIVE = "log_service"
MODELS, RULES, STACK = "files/models/", "files/rules.yaml", "files/stack/"
ALWAYS_LEFT_OUT = (
    "the velocity state: ai_service counts it again from its database",
    "mails that were delivered",
    "GeoIP data: make geoip fetches it",
    "logs",
)


@dataclass(frozen=True)
class Backup:
    """A backup that was made."""

    path: Path
    size: int
    manifest: Manifest


def back_up(deployment: Deployment, path: Path, *, passphrase: str | None, step: Step) -> Backup:
    """Write a backup to `path`, which is there afterwards whole or not at all; raises `OperationError`."""
    with databases_to_read(deployment) as reachable, creating(path, passphrase) as parts:
        manifest = _write(reachable, parts, step)
    return Backup(path, path.stat().st_size, manifest)


def _write(deployment: Deployment, parts: PartsWriter, step: Step) -> Manifest:
    made_at = utc_now().isoformat()
    parts.add(FIRST, as_bytes(Heading(format=FORMAT, product_version=PRODUCT_VERSION, made_at=made_at)))
    services = {}
    for service, database in DATABASES.items():
        with snapshot_of(database, deployment.urls[service]) as snapshot:
            services[service] = _copy(database, snapshot, parts, step, url=deployment.urls[service])
            if service == ARCHIVE:
                archive = _copy_archive(deployment, snapshot, parts, step)
    # after the databases: every model that a copied decision names was there by then
    files = {name: len(content) for name, content in _files(deployment, parts)}
    manifest = Manifest(
        format=FORMAT,
        product_version=PRODUCT_VERSION,
        made_at=made_at,
        services=services,
        files=files,
        archive=archive,
        not_in_it=_left_out(deployment),
    )
    parts.add(MANIFEST, as_bytes(manifest))
    return manifest


def _copy(
    database: ServiceDatabase, snapshot: Snapshot, parts: PartsWriter, step: Step, *, url: str
) -> ServiceFacts:
    read_at = utc_now().isoformat()
    tables = {}
    for table in database.tables:
        codec, digest = codec_of(table), TableDigest()
        for number, lines in enumerate(_in_pieces(snapshot.lines(table), digest), start=1):
            content = gzip.compress(lines, LEVEL, mtime=0)
            parts.add(f"{database.service}/{table.name}.{number:06d}.ndjson.gz", content)
            step(f"{database.service}: {table.name}", digest.rows)
        facts = digest.facts()
        tables[table.name] = TableFacts(columns=codec.kinds, rows=facts.rows, sha256_sum=facts.sha256_sum)
    return ServiceFacts(
        revision=database.revision,
        engine="sqlite" if is_sqlite(url) else "postgresql",
        read_at=read_at,
        tables=tables,
    )


def _in_pieces(lines: Iterable[bytes], digest: TableDigest) -> Iterator[bytes]:
    """Yield lines in pieces of a bounded size, at least one, and count them."""
    piece = bytearray()
    for line in lines:
        digest.add(line)
        piece += line
        piece += b"\n"
        if len(piece) >= PART_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece or not digest.rows:
        yield bytes(piece)


def _copy_archive(deployment: Deployment, snapshot: Snapshot, parts: PartsWriter, step: Step) -> ArchiveFacts:
    count, missing = 0, []
    with reachable_archive(deployment) as settings, open_archive(settings) as archive:
        for stored, data in archive.fetched(stored_objects(snapshot.connection)):
            if data is None:
                missing.append(stored.key)
                continue
            parts.add(stored.part, data)
            count += 1
            step("archive: objects", 1)
    return ArchiveFacts(objects=count, missing=missing)


def _files(deployment: Deployment, parts: PartsWriter) -> Iterator[tuple[str, bytes]]:
    for name, path in _found_files(deployment):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise OperationError(f"{path} cannot be read: {error.strerror or error}") from error
        parts.add(name, content)
        yield name, content


def _found_files(deployment: Deployment) -> Sequence[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    if deployment.stack is not None:
        stack = deployment.stack
        own = (stack.secrets, stack.login, stack.operators)
        found += [(STACK + path.name, path) for path in own if path.is_file()]
    if deployment.models_dir is not None and deployment.models_dir.is_dir():
        # what names the model in use comes first: what it names was there before
        paths = sorted(deployment.models_dir.rglob("*"), key=lambda path: (path.name != "current.json", path))
        found += [
            (MODELS + path.relative_to(deployment.models_dir).as_posix(), path)
            for path in paths
            if path.is_file() and not path.name.startswith(".")
        ]
    if deployment.rules_file is not None:
        found.append((RULES, deployment.rules_file))
    return found


def _left_out(deployment: Deployment) -> list[str]:
    left_out = list(ALWAYS_LEFT_OUT)
    if deployment.stack is None:
        left_out += [f"yours to keep: {what}" for what in OPERATORS_OWN]
    if deployment.models_dir is None:
        left_out.append("models: MODELS_DIR is not set")
    return left_out
