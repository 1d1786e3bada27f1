"""Tells whether a service uses a database: a copy that replaces it must not miss what comes afterwards."""

import fcntl
import os
from pathlib import Path

from sqlalchemy import make_url

from assay.errors import InUseError
from assay.postgres import refuse_connected
from assay.reading import is_sqlite, shown

# where SQLite locks: every connection that has read a file in WAL mode keeps a shared lock here
SHARED_FIRST = 0x4000_0002
SHARED_SIZE = 510


def refuse_used(service: str, url: str) -> None:
    """Raise `InUseError` while a program has the database at `url` open; one that is not there is used by nobody.

    What opens it afterwards is noticed by `SourceGuard`, or kept out by the locks of the copy.
    """
    if not is_sqlite(url):
        refuse_connected(service, url)
        return
    path = Path(make_url(url).database or "")
    if path.exists() and (_is_open(path) or _is_owned(Path(f"{path}.owner"))):
        raise InUseError(
            f"{shown(url)} is open in another program.",
            details=[
                f"Stop {service} first: Ctrl-C where `make run` runs, or the way it was started.",
                "Then nothing is lost: what the others have to tell it waits in their outboxes.",
            ],
        )


def _is_open(path: Path) -> bool:
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, SHARED_SIZE, SHARED_FIRST)
    except OSError:
        return True
    finally:
        os.close(file)  # and the lock with it
    return False


def _is_owned(lock: Path) -> bool:
    """Tell whether a log_service says that the database beside this file is its own."""
    if not lock.exists():
        return False
    file = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
