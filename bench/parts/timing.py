"""Times single steps of work, in CPU time of the calling thread: what else runs on the machine hardly counts."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def per_item_us(
    work: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, repeats: int
) -> tuple[float, list[ResultT]]:
    """Run `work` on each item, `repeats` times over all; return the best microseconds an item, and the last results."""
    best = float("inf")
    results: list[ResultT] = []
    for _ in range(repeats):
        with collected():
            started = time.thread_time()
            results = [work(item) for item in items]
            best = min(best, time.thread_time() - started)
    return best * 1e6 / len(items), results


@contextmanager
def collected() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
