"""Wakes an event loop at exact times: its own timers are a millisecond coarse, which would send in bursts."""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_libc = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class ExactTimer:
    """A Linux timer descriptor that an event loop watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = loop
        self._wake = wake
        loop.add_reader(self._descriptor, self._fired)

    def set(self, at: float) -> None:
        """Wake at `at`, in `time.monotonic()` seconds; a time that has passed wakes at once."""
        seconds, fraction = divmod(max(at, 1e-6), 1)
        spec = _TimerSpec(_Time(0, 0), _Time(int(seconds), max(1, int(fraction * 1e9))))
        if _libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Give the descriptor back."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _fired(self) -> None:
        os.read(self._descriptor, 8)
        self._wake()
