"""Tells one target what is in the outbox: claims rows, sends, removes them or puts them back, for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from common.circuit import Circuit
from common.clock import epoch_ms
from common.delivery import Delivery
from common.errors import PlatformError
from common.failpoints import failpoint
from common.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_PENDING
from common.outbox import MAX_BACKOFF_MS, REFUSED, WAKE_ROWS, Outbox, backoff_ms
from common.writer import DatabaseWriter

IDLE_S = 0.5
MAX_PAUSE_S = 5.0  # between two tries of a target that is away, however much waits for it
WAKE_EVERY_S = 1.0
MEASURE_EVERY_S = 1.0
_log = structlog.get_logger()
Send = Callable[[Sequence[str]], Awaitable[Delivery]]


@dataclass(frozen=True, slots=True)
class InlineSender:
    """Who tells the same target while somebody waits: its circuit, and how long one of its calls may take."""

    circuit: Circuit
    timeout_s: float


class Relay:
    """Tells one target what the inline sender could not.

    `send` takes subject ids and answers whether all of them were delivered. While a target fails, the relay tries
    one row at a time; the first success, its own or the inline sender's, wakes all the others. Each failure halves the
    batches that follow and each full one that is taken doubles them, so that a target that fails for their size alone is
    drained too. It is also the one that finds out when the inline sender may try again: after a call as quick as an
    inline one has to be.
    """

    def __init__(
        self,
        writer: DatabaseWriter,
        outbox: Outbox,
        *,
        target: str,
        send: Send,
        batch: int = 256,
        inline: InlineSender | None = None,
        reader: DatabaseWriter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._reader = reader or writer
        self._outbox = outbox
        self._target = target
        self._send = send
        self._batch = self._most = batch
        self._inline = inline
        self._clock = clock
        self._failures = 0
        self._news = asyncio.Event()
        self._must_wake = False
        self._may_wake_at = self._measure_at = float("-inf")
        if inline is not None:
            inline.circuit.on_recovery(self.wake)

    def wake(self) -> None:
        """Say that the target is there again: what waits after a failure is tried now."""
        self._must_wake = True
        if self._clock() >= self._may_wake_at:
            self._news.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            self._news.clear()
            taken = await self.relay_once()
            if self._failures:
                await self._rest(min(backoff_ms(self._failures) / 1000, MAX_PAUSE_S))
            elif taken == 0:
                await self._rest(IDLE_S)

    async def relay_once(self) -> int:
        """Try one batch; return how many rows were taken."""
        await self._wake_rows()
        limit = 1 if self._failures or self._probes() else self._batch
        subjects = await self._writer.run(
            lambda c: self._outbox.claim(c, self._target, now=epoch_ms(), limit=limit)
        )
        if self._clock() >= self._measure_at:
            await self._reader.run(self._measure)
            self._measure_at = self._clock() + MEASURE_EVERY_S
        if subjects:
            failpoint("relay.after_claim")
            await self._tell(subjects)
        return len(subjects)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def _wake_rows(self) -> None:
        """Wake what waits, if somebody said so; in parts, so that others can write in between."""
        if not self._must_wake or self._clock() < self._may_wake_at:
            return
        self._must_wake, self._failures = False, 0
        self._may_wake_at = self._clock() + WAKE_EVERY_S
        now, woken = epoch_ms(), WAKE_ROWS
        while woken == WAKE_ROWS:
            woken = await self._writer.run(lambda c: self._outbox.wake(c, self._target, now=now))

    def _probes(self) -> bool:
        """Whether one row is to show now how quick the target is; a full batch takes longer."""
        return self._inline is not None and self._inline.circuit.is_open and self._inline.circuit.admits()

    async def _tell(self, subjects: Sequence[str]) -> None:
        """Tell `subjects`; a refused batch is halved until what is refused stands alone."""
        groups = [subjects]
        while groups:
            group = groups.pop()
            delivery = await self._try(group)
            if delivery.delivered:
                await self._settle(group)
            elif not delivery.refused:
                await self._keep([*group, *(each for rest in groups for each in rest)], delivery)
                return
            elif len(group) > 1:
                middle = len(group) // 2
                groups += [group[middle:], group[:middle]]
            else:
                await self._set_aside(group, delivery)

    async def _try(self, subjects: Sequence[str]) -> Delivery:
        began = self._clock()
        try:
            delivery = await self._send(subjects)
        except (SQLAlchemyError, PlatformError) as error:
            delivery = Delivery(self._target, delivered=False, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the boundary: a row nobody thought of must not stop all others
            _log.exception("outbox.failed", target=self._target)
            delivery = Delivery(self._target, delivered=False, error=type(error).__name__, refused=True)
        failpoint("relay.after_send")
        if self._inline is not None and self._inline.circuit.is_open:
            if delivery.delivered and self._clock() - began < self._inline.timeout_s:
                self._inline.circuit.succeeded()
            else:
                self._inline.circuit.failed()
        return delivery

    async def _settle(self, subjects: Collection[str]) -> None:
        await self._writer.run(lambda c: self._outbox.remove(c, self._target, subjects))
        failpoint("relay.after_mark")
        if len(subjects) >= self._batch:  # one row that was taken says nothing of many
            self._batch = min(self._most, 2 * self._batch)
        if self._failures:
            self._failures = 0
            self.wake()

    async def _keep(self, subjects: Collection[str], delivery: Delivery) -> None:
        """Put `subjects` back until the target may be there again."""
        error = delivery.error or "unknown"
        self._failures += 1
        self._batch = max(1, self._batch // 2)
        delay = backoff_ms(self._failures)
        _log.warning(
            "outbox.not_delivered", target=self._target, error=error, rows=len(subjects), retry_ms=delay
        )
        await self._put_back(subjects, delay_ms=delay, error=error)

    async def _set_aside(self, subjects: Sequence[str], delivery: Delivery) -> None:
        """Let a refused row wait longest; it is not woken by the success of others."""
        error = REFUSED + (delivery.error or "unknown")
        _log.error("outbox.refused", target=self._target, error=error, subject=subjects[0])
        await self._put_back(subjects, delay_ms=MAX_BACKOFF_MS, error=error)

    async def _put_back(self, subjects: Collection[str], *, delay_ms: int, error: str) -> None:
        await self._writer.run(
            lambda c: self._outbox.put_back(
                c, self._target, subjects, now=epoch_ms(), delay_ms=delay_ms, error=error
            )
        )

    def _measure(self, connection: Connection) -> None:
        count, oldest = self._outbox.pending(connection, self._target)
        OUTBOX_PENDING.labels(self._target).set(count)
        OUTBOX_OLDEST_SECONDS.labels(self._target).set((epoch_ms() - oldest) / 1000 if oldest else 0)
