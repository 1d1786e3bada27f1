"""Named points where a test may end, fail or delay a process, to see what survives it.

A service is armed by its setting FAILPOINTS, e.g. `decisions.after_commit:kill:3, relay.before_send:delay:200`:

    NAME:kill[:N]    ends the process as `kill -9` does, at the Nth pass of the point (the first, if N is left out)
    NAME:error[:N]   raises `FailpointError` at the Nth pass alone (at every pass, if N is left out)
    NAME:delay:MS    keeps the thread that passes for so many milliseconds, at every pass

Production refuses the setting. A point that is not armed costs one look at an empty dictionary.
"""

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

_POINT = re.compile(r"([a-z0-9_]+(?:\.[a-z0-9_]+)+):(kill|error|delay)(?::([1-9][0-9]{0,8}))?", re.ASCII)
_log = structlog.get_logger()


class FailpointError(Exception):
    """What a point that is armed with `error` raises."""


class Action(StrEnum):
    """What happens at an armed point."""

    KILL = "kill"
    ERROR = "error"
    DELAY = "delay"


@dataclass
class Failpoint:
    """One armed point; `number` is the pass that counts, or the milliseconds of a delay."""

    name: str
    action: Action
    number: int | None
    _passes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def passed(self) -> None:
        """Do what the point is armed for, if this is the pass."""
        if self.action is Action.DELAY:
            time.sleep((self.number or 0) / 1000)
            return
        with self._lock:
            self._passes += 1
            passes = self._passes
        if self.action is Action.KILL and passes == (self.number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action is Action.ERROR and self.number in {None, passes}:
            raise FailpointError(self.name)


_armed: dict[str, Failpoint] = {}


def failpoint(name: str) -> None:
    """Pass the point `name`: nothing happens unless it is armed."""
    if _armed and name in _armed:
        _armed[name].passed()


async def failpoint_async(name: str) -> None:
    """Pass the point `name` on an event loop: a delay keeps who passes, and nobody else."""
    if _armed and name in _armed:
        await asyncio.to_thread(_armed[name].passed)


def parse_failpoints(text: str) -> tuple[Failpoint, ...]:
    """Return the points that `text` names, separated by commas; raises `ValueError`."""
    return tuple(_parsed(part.strip()) for part in text.split(",")) if text.strip() else ()


@contextmanager
def armed(text: str) -> Iterator[None]:
    """Arm the points that `text` names while the block runs."""
    points = {point.name: point for point in parse_failpoints(text)}
    if points:
        _log.warning("failpoints.armed", points=sorted(points))
    _armed.update(points)
    try:
        yield
    finally:
        for name in points:
            _armed.pop(name, None)


def _parsed(text: str) -> Failpoint:
    match = _POINT.fullmatch(text)
    if match is None or (match[2] == Action.DELAY and match[3] is None):
        raise ValueError("FAILPOINTS is a list of NAME:kill[:N], NAME:error[:N] or NAME:delay:MS")
    return Failpoint(match[1], Action(match[2]), int(match[3]) if match[3] else None)
