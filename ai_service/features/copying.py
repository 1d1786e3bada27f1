"""Copies the velocity state while it changes, so that a snapshot never holds up a payer.

The state is copied piece by piece, and nobody can observe only while one piece is copied. What was written meanwhile
is copied again, which is less each time; the last few blocks are copied in one go, and then the copy is the state of
that moment.
"""

import time
from contextlib import AbstractContextManager

import numpy as np

from ai_service.features import kernel
from ai_service.features.state import POOLS, Ints, VelocityState

_PIECE_BYTES = 1 << 17  # takes a few hundredths of a millisecond
_PAUSE_S = 0.0002
_FEW_BLOCKS = 64
_MAX_PASSES = 10


class StateCopier:
    """Takes one copy of `state`; `lock` keeps others from changing it."""

    def __init__(self, state: VelocityState, lock: AbstractContextManager[object]) -> None:
        self._state = state
        self._lock = lock
        with lock:
            shapes = {name: state.used_rows(name).shape for name in POOLS}
            state.dirty[:] = 1
        self._copied = {name: _touched(rows + rows // 8, columns) for name, (rows, columns) in shapes.items()}

    def catch_up(self) -> None:
        """Copy nearly everything, with pauses in which others observe."""
        for _ in range(_MAX_PASSES):
            if sum(self._copy(name) for name in POOLS) <= _FEW_BLOCKS:
                break

    def finish(self) -> dict[str, Ints]:
        """Return the copy, with what is still missing copied in one go; the caller holds the lock."""
        for name in POOLS:
            self._copy_piece(name, 0, at_most=len(self._state.dirty[0]))
        return {name: self._copied[name][: len(self._state.used_rows(name))] for name in POOLS}

    def _copy(self, name: str) -> int:
        """Copy what is marked of one array, piece by piece; return how many blocks that were."""
        block, copied = 0, 0
        while block >= 0:
            with self._lock:
                copied_now, block = self._copy_piece(name, block)
            copied += copied_now
            if copied_now:
                time.sleep(
                    _PAUSE_S
                )  # a lock is not fair: whoever gives it back may have it again before others
        return copied

    def _copy_piece(self, name: str, block: int, *, at_most: int = 0) -> tuple[int, int]:
        """Copy marked blocks from `block` on; return how many, and where to go on, -1 at the end."""
        rows, marks, target = (
            self._state.used_rows(name),
            self._state.dirty[POOLS.index(name)],
            self._copied[name],
        )
        if len(target) < len(rows):  # it grew by more than an eighth since the copy was begun
            longer = _touched(len(rows) + len(rows) // 8, rows.shape[1])
            longer[: len(target)] = target
            target = self._copied[name] = longer
        at_most = at_most or max(1, _PIECE_BYTES // (kernel.BLOCK * rows.shape[1] * rows.itemsize))
        copied, block = kernel.copy_blocks(rows, target, marks, block, at_most)
        return copied, block if block * kernel.BLOCK < len(rows) else -1


def _touched(rows: int, columns: int) -> Ints:
    """Return rows whose memory is really there: getting it page by page would take longer than copying."""
    found = np.empty((rows, columns), dtype=np.int64)
    found.fill(0)
    return found
