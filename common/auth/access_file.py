"""What a service knew of who may get in, on disk: written whole and atomically, read back or refused.

Two files, because what is known seldom changes and is confirmed every ten seconds: the state itself, and the times at
which exactly that state was last confirmed. Each ends with the SHA-256 of what stands before it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import Literal, Self, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from common.canonical import sha256_hex
from common.clock import epoch_ms
from common.contracts.access import AccessFeed
from common.contracts.fields import Contract

SAME_MS = 1000  # one moment is not always worked out to the same millisecond
PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
WRITABLE_BY_OTHERS = 0o022  # whoever writes the file says which keys sign tokens
ModelT = TypeVar("ModelT", bound=BaseModel)
_log = structlog.get_logger()


class AccessFileRefusedError(Exception):
    """The file is damaged, of another format, from elsewhere, or others may write it."""


class Moment(Contract):
    """A point in time by the clock on the wall, and by the machine's own, which no one sets."""

    wall_ms: int
    machine_s: float

    @classmethod
    def ago(cls, seconds: float) -> Self:
        """Return the moment that was `seconds` ago."""
        return cls(wall_ms=epoch_ms() - ceil(seconds * 1000), machine_s=time.monotonic() - seconds)

    def age_s(self, now: "Moment") -> float:
        """Return how long ago this was, at `now`; infinite where the clock on the wall went backwards.

        The machine's own clock begins with the machine, so what it says to have passed is never more than what did.
        """
        passed = (now.wall_ms - self.wall_ms) / 1000
        return inf if passed < 0 else max(passed, now.machine_s - self.machine_s)


class Times(Contract):
    """When it was last confirmed who may get in, and which keys verify tokens."""

    access: Moment
    keys: Moment


class Confirmation(Contract):
    """Since the state whose digest is `of` was written, it was confirmed again."""

    of: str
    times: Times


class Head(Contract):
    """What stands before the feed; `source` is who said it, `keys` are those of a JWK set."""

    format: Literal[1] = 1
    source: str
    times: Times
    keys: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class KeptAccess:
    """What is in the file, and its digest."""

    head: Head
    feed: AccessFeed
    digest: str


def as_lines(head: Head, feed: AccessFeed) -> bytes:
    """Return what is kept as text."""
    return b"%b\n%b" % (head.model_dump_json().encode(), _by_pieces(feed).encode())


def from_lines(content: bytes) -> tuple[Head, AccessFeed]:
    """Return what `as_lines` was given; raises `AccessFileRefusedError`."""
    head_line, _, feed_line = content.partition(b"\n")
    return _parsed(Head, head_line), _parsed(AccessFeed, feed_line)


@dataclass(frozen=True)
class AccessFile:
    """The state of one service. Processes that share it take turns, and none replaces what was confirmed later."""

    path: Path
    source: str

    def read(self) -> KeptAccess | None:
        """Return what is kept, with the latest times; None where there is nothing, raises `AccessFileRefusedError`."""
        try:
            content, digest = _content(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AccessFileRefusedError(type(error).__name__) from error
        head, feed = from_lines(content)
        if head.source != self.source:
            raise AccessFileRefusedError("it is from another user_service")
        times = self._confirmed(digest) or head.times
        return KeptAccess(head.model_copy(update={"times": times}), feed, digest)

    def write(self, head: Head, feed: AccessFeed) -> str:
        """Replace the state, unless one that was confirmed later is there; return the digest of this one.

        Raises `OSError`; then, and in a crash, the old one stays.
        """
        content = as_lines(head, feed)
        self.path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with _alone(self.path.parent):
            if not self._is_later(head.times):
                _replace(self.path, content)
        return sha256_hex(content)

    def confirm(self, confirmation: Confirmation) -> bool:
        """Write when a state was last confirmed; return whether that state is the one that is kept."""
        try:
            with _alone(self.path.parent):
                if _content(self.path)[1] != confirmation.of:
                    return False
                if not self._is_later(confirmation.times):
                    _replace(self._confirmation, confirmation.model_dump_json().encode())
        except (FileNotFoundError, AccessFileRefusedError):
            return False
        return True

    @property
    def _confirmation(self) -> Path:
        return self.path.with_suffix(".confirmed")

    def _is_later(self, times: Times) -> bool:
        """Say whether what is kept was confirmed after `times`; what claims to be of the future does not count."""
        try:
            content, digest = _content(self.path)
            head = _parsed(Head, content.partition(b"\n")[0])
        except (FileNotFoundError, AccessFileRefusedError):
            return False
        kept = (self._confirmed(digest) or head.times).access.wall_ms
        return head.source == self.source and times.access.wall_ms + SAME_MS < kept <= epoch_ms()

    def _confirmed(self, digest: str) -> Times | None:
        """Return when the state with that digest was confirmed after it was written."""
        try:
            confirmation = _parsed(Confirmation, _content(self._confirmation)[0])
        except FileNotFoundError:
            return None
        except (OSError, AccessFileRefusedError) as error:
            _log.warning("access.confirmation_ignored", file=self._confirmation.name, reason=str(error))
            return None
        return confirmation.times if confirmation.of == digest else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, against other threads and processes; in the end its names are on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _content(path: Path) -> tuple[bytes, str]:
    """Return what stands before the digest, and the digest; raises `OSError`, `AccessFileRefusedError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        for what, found in (("it", os.fstat(descriptor)), ("its folder", path.parent.stat())):
            if found.st_mode & WRITABLE_BY_OTHERS or found.st_uid not in {os.geteuid(), 0}:
                raise AccessFileRefusedError(f"others may write {what}")
        content, _, digest = file.read().rpartition(b"\n")
    if sha256_hex(content).encode() != digest:
        raise AccessFileRefusedError("its digest is another one")
    return content, digest.decode()


def _by_pieces(feed: AccessFeed) -> str:
    """Return `feed` as JSON, item by item: one call for fifty thousand keys would hold up all threads for 0.1 s."""
    lists = {name: getattr(feed, name) for name in ("institutions", "api_keys", "ended_sessions")}
    rest = feed.model_dump_json(exclude=set(lists)).removesuffix("}")
    items = [
        f'"{name}":[{",".join([each.model_dump_json() for each in found])}]' for name, found in lists.items()
    ]
    return ",".join([rest, *items]) + "}"


def _parsed(model: type[ModelT], text: bytes) -> ModelT:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise AccessFileRefusedError("it has another form") from error


def _replace(path: Path, content: bytes) -> None:
    """Put `content` and its digest in the place of the file, whole or not at all; nobody else may read it."""
    partial = path.with_name(f"{path.name}.partial")
    with suppress(FileNotFoundError):
        partial.unlink()  # of a process that ended in the middle: nobody else writes now
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"%b\n%b" % (content, sha256_hex(content).encode()))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
