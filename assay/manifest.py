"""What a backup says of itself, in its part `manifest.json`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from assay.digests import RowFacts
from assay.errors import BackupDamagedError

PRODUCT_VERSION = "0.1.0"  # as in pyproject.toml, which is not where containers run
FORMAT = 1
FIRST = "assay-backup.json"
MANIFEST = "manifest.json"


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Heading(_Said):
    """The first part, by which a backup is known as one."""

    format: int
    product_version: str
    made_at: str


class TableFacts(_Said):
    """One table: its columns by kind, and what is in it."""

    columns: dict[str, str]
    rows: int
    sha256_sum: str

    @property
    def facts(self) -> RowFacts:
        """Return what a copy is compared by."""
        return RowFacts(self.rows, self.sha256_sum)


class ServiceFacts(_Said):
    """One service's database as it was at `read_at`."""

    revision: str
    engine: Literal["sqlite", "postgresql"]
    read_at: str
    tables: dict[str, TableFacts]


class ArchiveFacts(_Said):
    """The objects of the archive; `missing` are those that log_service had stored and that were not there, or changed."""

    objects: int
    missing: list[str]


class Manifest(_Said):
    """Everything that is in a backup, and what is not."""

    format: int
    product_version: str
    made_at: str
    services: dict[str, ServiceFacts]
    files: dict[str, int]
    archive: ArchiveFacts
    not_in_it: list[str]


def read_heading(content: bytes) -> Heading:
    """Return the first part; raises `BackupDamagedError`, also for the format of a later version."""
    try:
        heading = Heading.model_validate_json(content)
    except ValidationError as error:
        raise BackupDamagedError("That is no backup of Assay.") from error
    if heading.format != FORMAT:
        raise BackupDamagedError(
            f"The backup has format {heading.format}, made by Assay {heading.product_version}; "
            f"this version reads format {FORMAT}."
        )
    return heading


def read_manifest(content: bytes) -> Manifest:
    """Return the manifest; raises `BackupDamagedError`."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BackupDamagedError("The backup is damaged: its manifest cannot be read.") from error


def as_bytes(said: Heading | Manifest) -> bytes:
    """Return the part's content."""
    return said.model_dump_json(indent=1).encode() + b"\n"
