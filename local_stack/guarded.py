"""Runs a module as `python -m MODULE ...` would, and ends it when the process that started it is gone.

Standard input is a pipe that only the starter holds open. It closes however the starter ends, `kill -9` included, so
no service outlives its stack; this needs no help from the kernel beyond pipes.
"""

import os
import runpy
import signal
import sys
import threading

GRACE_S = 15.0


def main() -> None:
    """Run the module named by the first argument; the others are its own."""
    sys.argv = sys.argv[1:]
    threading.Thread(target=_end_with_starter, name="starter-watch", daemon=True).start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
