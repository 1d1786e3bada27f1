"""Restores a backup into a deployment that is empty: the story of `assay restore`.

The whole file is read and verified first. Then everything is filled beside where it will be, read back, and made visible
at the end: objects of the archive (which are never changed, and may be there already), files, databases. What is broken
off is begun again with the same command; what an earlier try had finished is recognized by its content, unless numbers
were moved on behind a newer archive: then the databases are dropped first (docs/operations.md).
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from assay.archive_objects import Archive, StoredObject, open_archive, stored_objects
from assay.backing_up import ARCHIVE, MODELS, RULES, STACK
from assay.container import Part, read_parts
from assay.database_server import databases_to_fill
from assay.databases import DATABASES
from assay.digests import RowFacts, TableDigest
from assay.errors import BackupDamagedError, LeftOverError, NotEmptyError, OperationError, OtherSchemaError
from assay.in_use import refuse_used
from assay.manifest import Manifest, ServiceFacts
from assay.moving import Step
from assay.numbering import Advanced, advance_numbers
from assay.object_server import reachable_archive
from assay.reading import Seen, Snapshot, nobody, see_every_tenant
from assay.settings import Deployment
from assay.shapes import Kinds, table_of
from assay.verifying import lines_of, sort_of, verify
from assay.writing import staged
from common.db import writing_engine
from local_stack import service_secrets
from local_stack.files import StackFiles
from local_stack.ownership import owning

PRIVATE = 0o600


@dataclass(frozen=True)
class Restored:
    """What was restored. `advanced` are numbers that were moved on behind what the archive holds from later."""

    manifest: Manifest
    advanced: Advanced
    by_hand: tuple[str, ...]


class Target(Protocol):
    """One service's database on its way back."""

    @property
    def connection(self) -> Connection:
        """Return the connection that sees it."""

    def load(self, name: str, kinds: Kinds, lines: Iterable[bytes]) -> RowFacts:
        """Take a table."""

    def verify(self, *, seen: Seen) -> None:
        """Compare what is there."""

    def commit(self) -> None:
        """Keep it."""


def restore(path: Path, deployment: Deployment, *, passphrase: str | None, step: Step) -> Restored:
    """Restore the backup at `path`; raises `OperationError`, after which nothing of it is in use."""
    manifest = verify(path, passphrase=passphrase)
    _refuse_unknown_schemas(manifest)
    with ExitStack() as until_done:
        if deployment.stack is not None:
            until_done.enter_context(owning(deployment.stack))
        if deployment.servers is not None and deployment.stack is not None:
            secrets = _secrets(deployment.stack, path, passphrase)
            deployment = until_done.enter_context(databases_to_fill(deployment, secrets))
        for service in DATABASES:
            refuse_used(service, deployment.urls[service])
        work = _Work(deployment, manifest, until_done, step)
        for kind, group in groupby(read_parts(path, passphrase), key=lambda part: sort_of(part[0])[0]):
            work.take(kind, group)
        advanced = work.finish()
    return Restored(manifest, advanced, tuple(work.by_hand))


class _Work:
    """One restore: what is staged so far."""

    def __init__(self, deployment: Deployment, manifest: Manifest, until_done: ExitStack, step: Step) -> None:
        self._deployment = deployment
        self._manifest = manifest
        self._until_done = until_done
        self._step = step
        self._targets: dict[str, Target] = {}
        self._files: list[tuple[Path, Path]] = []
        self._archive: Archive | None = None
        self.by_hand: list[str] = []

    def take(self, kind: str, parts: Iterable[Part]) -> None:
        """Take the parts of one kind."""
        if kind == "table":
            for (_, service, table), group in groupby(parts, key=lambda part: sort_of(part[0])):
                if service in DATABASES:
                    self._load(service, table, group)
        elif kind == "archive":
            self._store(parts)
        elif kind == "file":
            for name, content in parts:
                self._stage_file(name, content)
        else:
            for _ in parts:
                pass

    def finish(self) -> Advanced:
        """Make everything visible."""
        for service, target in self._targets.items():
            target.verify(seen=partial(self._step, f"{service}: reading back"))
        connections = {service: target.connection for service, target in self._targets.items()}
        advanced = advance_numbers(connections, self._opened_archive())
        for unfinished, path in self._files:
            unfinished.rename(path)
        for target in self._targets.values():
            target.commit()
        return advanced

    def _load(self, service: str, table: str, parts: Iterable[Part]) -> None:
        facts = self._manifest.services[service]
        if service not in self._targets:
            self._targets[service] = self._until_done.enter_context(
                _target(service, self._deployment.urls[service], facts)
            )
        said = facts.tables[table]
        loaded = self._targets[service].load(table, said.columns, lines_of(parts))
        if loaded != said.facts:
            raise BackupDamagedError("The backup was changed while it was restored.")
        self._step(f"{service}: {table}", said.rows)

    def _store(self, parts: Iterable[Part]) -> None:
        archive = self._opened_archive()
        known = stored_objects(self._targets[ARCHIVE].connection)
        for name, content in parts:
            stored = _found(known, name)
            if not stored.holds(content):
                raise BackupDamagedError(f"{name} is not what log_service had stored.")
            if not archive.put(stored, content):
                raise OperationError(
                    f"The bucket holds something else under {stored.key}.",
                    details=[
                        "It is the archive of another deployment, or was changed. Choose an empty bucket."
                    ],
                )
            self._step("archive: objects", 1)

    def _opened_archive(self) -> Archive:
        if self._archive is None:
            settings = self._until_done.enter_context(reachable_archive(self._deployment))
            self._archive = self._until_done.enter_context(open_archive(settings))
        return self._archive

    def _stage_file(self, name: str, content: bytes) -> None:
        path = _place(name, self._deployment)
        if path is None:
            self.by_hand.append(name)
            return
        if path.exists():
            if path.read_bytes() != content:
                raise NotEmptyError(f"{path} is there already, with another content; it was left as it is.")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        self._until_done.callback(Path(unfinished).unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._files.append((Path(unfinished), path))


def _secrets(files: StackFiles, path: Path, passphrase: str | None) -> Mapping[str, str]:
    """Return the secrets of the stack: its own, those that the backup brings, or new ones where neither has any."""
    if files.secrets.exists():
        return service_secrets.kept(files)
    for name, content in read_parts(path, passphrase):
        if name == STACK + files.secrets.name:
            return service_secrets.parsed(content.decode())
    return service_secrets.load_or_make(files)


@contextmanager
def _target(service: str, url: str, facts: ServiceFacts) -> Iterator[Target]:
    """Yield an empty database to fill, or one that holds exactly what it should; raises `NotEmptyError`."""
    with ExitStack() as opened:
        try:
            target: Target = opened.enter_context(staged(DATABASES[service], url, revision=facts.revision))
        except LeftOverError:
            raise  # not opened: SQLite would make a database of what is left
        except NotEmptyError as refused:
            target = opened.enter_context(_already_there(url, facts, refused))
        yield target


@contextmanager
def _already_there(url: str, facts: ServiceFacts, refused: NotEmptyError) -> Iterator["_AlreadyThere"]:
    engine = writing_engine(url, timeouts=None)
    try:
        with engine.connect() as connection:
            see_every_tenant(connection)
            there = _AlreadyThere(connection, facts, refused)
            there.verify()
            yield there
    finally:
        engine.dispose()


@dataclass(frozen=True)
class _AlreadyThere:
    """A database that an earlier try may have restored."""

    connection: Connection
    facts: ServiceFacts
    refused: NotEmptyError

    def load(self, _name: str, _kinds: Kinds, lines: Iterable[bytes]) -> RowFacts:
        """Read past the lines."""
        digest = TableDigest()
        for line in lines:
            digest.add(line)
        return digest.facts()

    def verify(self, *, seen: Seen = nobody) -> None:
        """Raise `NotEmptyError` unless the rows are the backup's."""
        tables = [table_of(name, table.columns) for name, table in self.facts.tables.items()]
        found = Snapshot(tables, self.connection).facts(seen=seen)
        if found != {name: table.facts for name, table in self.facts.tables.items()}:
            raise self.refused

    def commit(self) -> None:
        """Keep what was advanced."""
        self.connection.commit()


def _found(known: Iterator[StoredObject], part: str) -> StoredObject:
    """Return the object of a part; both come in the order of their ids."""
    for stored in known:
        if stored.part == part:
            return stored
    raise BackupDamagedError(f"{part} is of an object that log_service does not know.")


def _place(name: str, deployment: Deployment) -> Path | None:
    """Return where a file of the backup belongs, or None where this deployment has no place for it."""
    if name.startswith(STACK):
        return deployment.stack.root / _inside(name, STACK) if deployment.stack else None
    if name.startswith(MODELS):
        return deployment.models_dir / _inside(name, MODELS) if deployment.models_dir else None
    return deployment.rules_file if name == RULES else None


def _inside(name: str, folder: str) -> str:
    path = name.removeprefix(folder)
    if path.startswith("/") or ".." in path.split("/"):
        raise BackupDamagedError("The backup names a file outside its folder.")
    return path


def _refuse_unknown_schemas(manifest: Manifest) -> None:
    unknown: Mapping[str, str] = {
        service: facts.revision
        for service, facts in manifest.services.items()
        if service not in DATABASES or not DATABASES[service].knows_revision(facts.revision)
    }
    if unknown or manifest.services.keys() != DATABASES.keys():
        raise OtherSchemaError(
            f"The backup was made by Assay {manifest.product_version}, whose databases this version does not know.",
            details=[f"{service}: revision {revision}" for service, revision in unknown.items()],
        )
