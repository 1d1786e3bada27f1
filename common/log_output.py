"""Standard output that nobody waits for: a pipe whose reader stands still takes no payment with it.

Lines that it does not take now are kept for later, the oldest are dropped, and a counter says how many. A file or a
terminal is written to as ever.
"""

import errno
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from prometheus_client import Counter

MAX_WAITING_BYTES: Final = 4_000_000
# a pipe takes so much whole or not at all: lines up to there stay whole, however many processes write them
WHOLE_BYTES: Final = select.PIPE_BUF
DROPPED = Counter("assay_log_lines_dropped_total", "Log lines that nobody took in time; the oldest go first.")
_GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF})
Write = Callable[[bytes], int]
"""Takes what it can now, and returns how much; raises `BlockingIOError` when that is nothing."""


class UnwaitedOutput:
    """Takes text at once, whoever reads it when; from one thread at a time."""

    def __init__(self, descriptor: int, write: Write, close: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._send = write
        self.close = close
        self._waiting: deque[bytes] = deque()  # lines; the first may be the rest of one
        self._bytes = 0
        self._is_begun = False

    @property
    def waiting(self) -> int:
        """Return how many lines nobody has taken yet."""
        return len(self._waiting)

    def write(self, text: str) -> None:
        """Write whole lines, or keep them for the next call; "" tries again what waits."""
        for line in text.encode(errors="backslashreplace").splitlines(keepends=True):
            self._waiting.append(line)
            self._bytes += len(line)
        self._try()
        while self._bytes > MAX_WAITING_BYTES and len(self._waiting) > 1 + self._is_begun:
            self._drop_oldest()

    def finish(self, *, timeout_s: float) -> None:
        """Write what still waits, for at most `timeout_s`."""
        until = time.monotonic() + timeout_s
        self.write("")
        while self._waiting and (left := until - time.monotonic()) > 0:
            select.select([], [self._descriptor], [], left)
            self.write("")

    def _try(self) -> None:
        while self._waiting:
            together = self._together()
            try:
                taken = self._send(together)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _GONE:
                    return
                DROPPED.inc(len(self._waiting))
                self._waiting.clear()
                self._bytes, self._is_begun = 0, False
                return
            self._forget(taken)

    def _together(self) -> bytes:
        """Return as many of the oldest lines as a pipe takes whole; one that is longer alone."""
        lines, size = [self._waiting[0]], len(self._waiting[0])
        for line in islice(self._waiting, 1, None):
            size += len(line)
            if size > WHOLE_BYTES:
                break
            lines.append(line)
        return b"".join(lines)

    def _forget(self, taken: int) -> None:
        self._bytes -= taken
        while taken and taken >= len(self._waiting[0]):
            taken -= len(self._waiting.popleft())
            self._is_begun = False
        if taken:
            self._waiting[0] = self._waiting[0][taken:]
            self._is_begun = True

    def _drop_oldest(self) -> None:
        """Drop a whole line: the rest of one that is begun would be taken for one."""
        place = int(self._is_begun)
        self._bytes -= len(self._waiting[place])
        del self._waiting[place]
        DROPPED.inc()


def has_a_reader(descriptor: int) -> bool:
    """Say whether this is a pipe or a socket: somebody reads it, or does not."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def unwaited_output(descriptor: int) -> UnwaitedOutput | None:
    """Return who writes to a pipe or socket without waiting; None for anything else, which takes all it is given."""
    mode = os.fstat(descriptor).st_mode
    try:
        if stat.S_ISFIFO(mode):
            # opened anew: "do not wait" would hold for every other program that writes to what is open already
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            return UnwaitedOutput(own, lambda data: os.write(own, data), lambda: os.close(own))
        if stat.S_ISSOCK(mode):
            connected = socket.socket(fileno=os.dup(descriptor))
            return UnwaitedOutput(
                descriptor, lambda data: connected.send(data, socket.MSG_DONTWAIT), connected.close
            )
    except OSError:  # somebody else's, or no Linux: then it is waited for
        return None
    return None
