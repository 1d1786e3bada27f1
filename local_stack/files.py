"""Where everything lies below the stack's own folder, and how its small files are written."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
OTHERS = 0o077  # as a umask: nobody else reads what is written


@dataclass(frozen=True)
class StackFiles:
    """The folder that holds all data of one stack."""

    root: Path

    @property
    def secrets(self) -> Path:
        """What the services show each other, made once."""
        return self.root / "secrets.env"

    @property
    def login(self) -> Path:
        """The account for trying things out."""
        return self.root / "login.json"

    @property
    def operators(self) -> Path:
        """The passwords of the operators that were made here, by e-mail address."""
        return self.root / "operators.json"

    @property
    def state(self) -> Path:
        """Process ids and addresses of the stack that runs."""
        return self.root / "stack.json"

    @property
    def lock(self) -> Path:
        """Held while a stack runs, so that two never share the folder."""
        return self.root / "stack.lock"

    @property
    def objects(self) -> Path:
        """What the S3-compatible server keeps."""
        return self.root / "objects"

    @property
    def mails(self) -> Path:
        """One file for each delivered mail."""
        return self.root / "mailbox"

    @property
    def models(self) -> Path:
        """Trained models."""
        return self.root / "models"

    @property
    def servers(self) -> Path:
        """What PostgreSQL and Valkey keep, and what belongs to it."""
        return self.root / "servers"

    @property
    def geoip(self) -> Path:
        """Downloaded location data."""
        return self.root / "geoip"

    def database(self, service: str) -> Path:
        """Return the SQLite file of `service`."""
        return self.root / f"{service}.db"

    def log(self, part: str) -> Path:
        """Return the file that takes what `part` prints."""
        return self.root / "logs" / f"{part}.log"


def write_private(path: Path, text: str) -> None:
    """Write `text` so that only this user can read it, and that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), PRIVATE)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(unfinished).replace(path)
