"""Tells one other service about a batch while the payers wait: bounded, and not at all while that is in vain."""

import time
from collections.abc import Awaitable, Callable

import structlog

from common.circuit import Circuit
from common.delivery import Delivery

SLOW_S = 0.025
_log = structlog.get_logger()


class Telling:
    """One target, told inline. What is not told here is pending: it stays in the outbox, where the relay finds it.

    While a call has been running for longer than `SLOW_S`, the batches that come after it do not wait for calls of
    their own; after a few failed ones the client's circuit is open, and only the relay tries.
    """

    def __init__(
        self, target: str, circuit: Circuit, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.target = target
        self._circuit = circuit
        self._clock = clock
        self._started: dict[int, float] = {}
        self._number = 0

    @property
    def is_worth_it(self) -> bool:
        """Whether the next batch will be told inline, as far as can be said now."""
        return not self._circuit.is_open and not self._is_slow()

    async def tell(self, call: Callable[[], Awaitable[Delivery]]) -> Delivery:
        """Return what became of `call`, or that it was not tried; never raises."""
        if not self.is_worth_it:
            return Delivery(self.target, delivered=False, error="not tried")
        self._number += 1
        number = self._number
        self._started[number] = self._clock()
        try:
            return await call()
        except Exception as error:  # noqa: BLE001 - the boundary after the commit: what is saved stays saved
            _log.exception("delivery.failed", target=self.target)
            return Delivery(self.target, delivered=False, error=type(error).__name__)
        finally:
            del self._started[number]

    def _is_slow(self) -> bool:
        # a dictionary keeps its order: the first is the oldest
        return bool(self._started) and self._clock() - next(iter(self._started.values())) > SLOW_S
